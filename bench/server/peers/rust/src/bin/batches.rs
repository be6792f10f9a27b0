//! The same thread and session, but requests that wait together are run as one; nobody waits for another to come.

use axum::{Router, body::Bytes, extract::State, routing::post};
use ort::session::Session;
use rust_peer::{Answer, Input, Output, PATH, answer, failed, load, parse, read, run, serve};
use tokio::sync::{mpsc, oneshot};

const MOST: usize = 64;

struct Call {
    inputs: Vec<Input>,
    reply: oneshot::Sender<Answer>,
}

async fn infer(State(queue): State<mpsc::Sender<Call>>, body: Bytes) -> Answer {
    let (reply, answered) = oneshot::channel();
    let call = Call { inputs: parse(&body)?.inputs, reply };
    queue.send(call).await.map_err(failed)?;
    answered.await.map_err(failed)?
}

async fn work(mut session: Session, mut queue: mpsc::Receiver<Call>) {
    let mut waiting = Vec::with_capacity(MOST);
    while queue.recv_many(&mut waiting, MOST).await > 0 {
        while !waiting.is_empty() {
            let first = waiting.swap_remove(0);
            let fit: Vec<Call> = waiting.extract_if(.., |call| fits(&first.inputs, &call.inputs)).collect();
            let calls: Vec<Call> = std::iter::once(first).chain(fit).collect();
            let answers = run_all(&mut session, &calls);
            for (call, answer) in calls.into_iter().zip(answers) {
                let _ = call.reply.send(answer); // its client may have left
            }
        }
    }
}

/// Whether two requests differ in nothing but their rows.
fn fits(one: &[Input], other: &[Input]) -> bool {
    let same = |(a, b): (&Input, &Input)| {
        a.name == b.name && !a.shape.is_empty() && !b.shape.is_empty() && a.shape[1..] == b.shape[1..]
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn run_all(session: &mut Session, calls: &[Call]) -> Vec<Answer> {
    let joined;
    let inputs = match calls {
        [only] => &only.inputs,
        [first, ..] => {
            joined = (0..first.inputs.len()).map(|position| join(calls, position)).collect();
            &joined
        }
        [] => return vec![],
    };
    let sizes: Vec<i64> = calls.iter().map(|call| rows(&call.inputs)).collect();
    let found = run(session, inputs);
    let outputs = found.as_ref().map_err(|error| failed(error)).and_then(|found| read(found).map_err(failed));
    match outputs {
        Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        Ok(outputs) if calls.len() == 1 => vec![answer(&outputs)],
        Ok(outputs) => share(&outputs, &sizes),
    }
}

fn join(calls: &[Call], position: usize) -> Input {
    let first = &calls[0].inputs[position];
    let mut shape = first.shape.clone();
    shape[0] = calls.iter().map(|call| call.inputs[position].shape[0]).sum();
    let data = calls.iter().flat_map(|call| &call.inputs[position].data).copied().collect();
    Input { name: first.name.clone(), shape, data }
}

fn rows(inputs: &[Input]) -> i64 {
    inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0)
}

/// Each request's own rows of what the model said to all of them.
fn share(outputs: &[Output], sizes: &[i64]) -> Vec<Answer> {
    let total: i64 = sizes.iter().sum();
    if outputs.iter().any(|output| output.shape.first() != Some(&total)) {
        let error = failed("the model's outputs are not by rows");
        return sizes.iter().map(|_| Err(error.clone())).collect();
    }
    let mut begin = 0;
    let share = |size: &i64| {
        let mine = outputs.iter().map(|output| {
            let row = output.data.len() / total as usize;
            let (start, stop) = (begin as usize * row, (begin + size) as usize * row);
            let shape = [&[*size], &output.shape[1..]].concat();
            Output { shape, data: &output.data[start..stop], ..*output }
        });
        let mine: Vec<Output> = mine.collect();
        begin += size;
        answer(&mine)
    };
    sizes.iter().map(share).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = load()?;
    Ok(serve(|| {
        let (queue, waiting) = mpsc::channel(MOST);
        tokio::spawn(work(session, waiting));
        Router::new().route(PATH, post(infer)).with_state(queue)
    })?)
}
