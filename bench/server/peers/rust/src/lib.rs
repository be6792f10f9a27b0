//! The protocol's JSON, and the model as every peer runs it: one session, one thread, no spinning.

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, serve::ListenerExt};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};
use std::{env::var, fmt::Display};

pub const PATH: &str = "/v2/models/model/infer";
pub type Answer = Result<([(axum::http::HeaderName, &'static str); 1], Vec<u8>), (StatusCode, String)>;

#[derive(Deserialize)]
pub struct Request {
    pub inputs: Vec<Input>,
}

#[derive(Deserialize)]
pub struct Input {
    pub name: String,
    pub shape: Vec<i64>,
    pub data: Vec<f32>,
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'static str,
    outputs: &'a [Output<'a>],
}

#[derive(Serialize)]
pub struct Output<'a> {
    pub name: &'a str,
    pub datatype: &'static str,
    pub shape: Vec<i64>,
    pub data: &'a [f32],
}

pub fn load() -> ort::Result<Session> {
    let builder = Session::builder(&ort::init().build()?)?;
    let builder = builder.with_intra_threads(1)?.with_inter_threads(1)?;
    builder.with_intra_op_spinning(false)?.commit_from_file(var("BENCH_MODEL").unwrap())
}

pub fn parse(body: &[u8]) -> Result<Request, (StatusCode, String)> {
    sonic_rs::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

pub fn run<'s>(session: &'s mut Session, inputs: &[Input]) -> ort::Result<SessionOutputs<'s>> {
    let mut tensors: Vec<(&str, SessionInputValue)> = Vec::with_capacity(inputs.len());
    for input in inputs {
        let tensor = TensorRef::from_array_view((input.shape.as_slice(), input.data.as_slice()))?;
        tensors.push((&input.name, tensor.into()));
    }
    session.run(tensors)
}

/// What a model said, with nothing copied.
pub fn read<'a>(outputs: &'a SessionOutputs) -> ort::Result<Vec<Output<'a>>> {
    let found = outputs.keys().enumerate().map(|(position, name)| {
        let (shape, data) = outputs[position].try_extract_tensor::<f32>()?;
        Ok(Output { name, datatype: "FP32", shape: shape.to_vec(), data })
    });
    found.collect()
}

pub fn answer(outputs: &[Output]) -> Answer {
    let body = sonic_rs::to_vec(&Response { model_name: "model", outputs }).map_err(failed)?;
    Ok(([(CONTENT_TYPE, "application/json")], body))
}

pub fn failed(error: impl Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Serve on one thread, for good; `made` makes the application within its runtime.
pub fn serve(made: impl FnOnce() -> Router) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let address = format!("127.0.0.1:{}", var("BENCH_PORT").unwrap());
        let listener = tokio::net::TcpListener::bind(address).await?;
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, made()).await
    })
}
