//! A plain server: one thread, one session, each request by itself.

use axum::{Router, body::Bytes, extract::State, routing::post};
use ort::session::Session;
use rust_peer::{Answer, PATH, answer, failed, load, parse, read, run, serve};
use std::sync::{Arc, Mutex};

async fn infer(State(session): State<Arc<Mutex<Session>>>, body: Bytes) -> Answer {
    let request = parse(&body)?;
    let mut session = session.lock().unwrap();
    let outputs = run(&mut session, &request.inputs).map_err(failed)?;
    answer(&read(&outputs).map_err(failed)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = Arc::new(Mutex::new(load()?));
    Ok(serve(|| Router::new().route(PATH, post(infer)).with_state(session))?)
}
