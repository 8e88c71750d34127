//! What a guest asks of models, rightly and wrongly, and what it does with the answers.

use serde_json::json;
use tenon_sdk::{Failure, HostCall, Inference, Outputs, Rejection, Request, Response, Step, Tensor};

use crate::{faults, hoards, query};

const ROW_ELEMENTS: u64 = 16;
const IDS_IN_A_LOOKUP: u64 = 4;

/// The first step of those paths that ask a model.
pub(crate) fn ask(path: &str, request: &Request) -> Result<Option<Step>, Rejection> {
    let step = match path {
        "/nothing" => Step::Infer(Vec::new()),
        "/loop/postprocess" | "/steps" | "/chain" => count_up("identity", 1).or_trap().into(),
        "/hoard" if query::value(request, "what").as_deref() == Some("outputs") => {
            count_up("identity", 1).or_trap().into()
        }
        "/unread" => vec![count_up("identity", 64).or_trap(), count_up("identity", 64).or_trap()].into(),
        "/rows" => count_up("identity", query::number(request, "n", 1)?).or_trap().into(),
        "/slow" => slow().or_trap().into(),
        "/unknown-model" => count_up("nobody", 1).or_trap().into(),
        "/unequal" => unequal(query::value(request, "how").as_deref()).or_trap().into(),
        "/ids" => ids(&query::rows(request)?).or_trap().into(),
        "/lookup" => lookup(&query::rows(request)?).or_trap().into(),
        "/parallel" => {
            let ragged = ids(&[vec![1, 2, 3], vec![4]]).or_trap();
            vec![count_up("identity", 2).or_trap(), ragged].into()
        }
        _ => return Ok(None),
    };
    Ok(Some(step))
}

/// The step after a model has answered.
pub(crate) fn go_on(request: &Request, outputs: &[Outputs], rounds: u64) -> Result<Step, Rejection> {
    let path = request.path();
    let answer = match path.as_str() {
        "/loop/postprocess" => faults::spin(),
        "/hoard" => json!({ "kept": hoards::outputs(&outputs[0]) }),
        // Once more than it may: nothing was read on the way.
        "/unread" => {
            let again = vec![count_up("identity", 64).or_trap(), count_up("identity", 64).or_trap()];
            return Ok(if rounds < query::number(request, "n", 1)? { again.into() } else { done() });
        }
        "/steps" => return Ok(again(&outputs[0]).or_trap().into()),
        "/chain" if rounds < query::number(request, "n", 1)? => {
            return Ok(again(&outputs[0]).or_trap().into());
        }
        "/ids" => ragged_answer(&outputs[0]).or_trap(),
        "/lookup" => json!({ "vector": floats(&outputs[0], "vector").or_trap() }),
        "/parallel" => {
            let mut answer = ragged_answer(&outputs[1]).or_trap();
            answer["y"] = json!(floats(&outputs[0], "y").or_trap());
            answer
        }
        _ => {
            let y = floats(&outputs[0], "y").or_trap();
            json!({ "rounds": rounds, "rows": y.len(), "equal": counts_up(&y), "y": y })
        }
    };
    Ok(Response::json(200, &answer).or_trap().into())
}

fn done() -> Step {
    Response::json(200, &json!({ "read": 0 })).or_trap().into()
}

/// Rows of sixteen numbers, counting up from 0.
fn count_up(model: &str, rows: u64) -> Result<Inference, Failure> {
    let values: Vec<f32> = (0..rows * ROW_ELEMENTS).map(|value| value as f32).collect();
    Inference::new(model).input("x", &Tensor::fixed(&[rows, ROW_ELEMENTS], &values)?)
}

fn counts_up(rows: &[Vec<f32>]) -> bool {
    rows.iter().flatten().enumerate().all(|(index, value)| *value == index as f32)
}

fn slow() -> Result<Inference, Failure> {
    Inference::new("slow").input("x", &Tensor::create("FP32", &[1, ROW_ELEMENTS])?)
}

/// The output as the next input: made by the host, sealed, never in the guest's memory.
fn again(outputs: &Outputs) -> Result<Inference, Failure> {
    Inference::new("identity").input("x", &outputs.tensor("y")?)
}

fn ids(rows: &[Vec<i64>]) -> Result<Inference, Failure> {
    Inference::new("ragged").input("ids", &Tensor::ragged(rows)?)
}

fn lookup(rows: &[Vec<i64>]) -> Result<Inference, Failure> {
    let shape = [rows.len() as u64, IDS_IN_A_LOOKUP];
    Inference::new("lookup").input("ids", &Tensor::fixed(&shape, &rows.concat())?)
}

/// Questions that disagree with what `function.toml` and the model say.
fn unequal(how: Option<&str>) -> Result<Inference, Failure> {
    let right = || Tensor::create("FP32", &[1, ROW_ELEMENTS]);
    let question = Inference::new("identity");
    match how {
        Some("datatype") => question.input("x", &Tensor::create("INT64", &[1, ROW_ELEMENTS])?),
        Some("missing") => Ok(question),
        Some("unknown") => question.input("x", &right()?)?.input("z", &right()?),
        Some("rows") => question.input("x", &Tensor::create("FP32", &[0, ROW_ELEMENTS])?),
        _ => question.input("x", &Tensor::create("FP32", &[1, ROW_ELEMENTS / 2])?),
    }
}

fn floats(outputs: &Outputs, name: &str) -> Result<Vec<Vec<f32>>, Failure> {
    Ok(outputs.tensor(name)?.rows::<f32>()?.iter().map(<[f32]>::to_vec).collect())
}

fn ragged_answer(outputs: &Outputs) -> Result<serde_json::Value, Failure> {
    let same = outputs.tensor("same")?.rows::<i64>()?;
    let total = outputs.tensor("total")?.values::<i64>()?;
    Ok(json!({ "same": same.iter().collect::<Vec<_>>(), "total": total }))
}
