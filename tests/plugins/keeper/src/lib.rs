//! Answers that can be told apart, remembered as the query says: what the cache's tests send
//! requests to. Each answer carries a stamp that no other has: two equal ones are one.
//!
//! | path | |
//! |---|---|
//! | `/say` | the body's text |
//! | `/slow` | the same after the slow model |
//! | `/numbers` | `[1, 2]`: rows for `identity`, or for the model that the query names |
//! | `/ragged` | `[[1, 2], [3]]`: rows for `ragged` |
//! | `/named` | `[["a", 1], ["b", 2]]`: rows for `identity`, asked for by name first |
//! | `/refuse` | a refusal with a stamp |
//!
//! | in the query | |
//! |---|---|
//! | `ttl`, `while`, `error`, `negative` | times of the policy, in milliseconds |
//! | `key`, `header`, `tag` | any number of them |
//! | `class`, `bypass=1` | |
//! | `policy=trap` | the policy ends badly |
//!
//! The header `x-do: trap | refuse` decides how a request ends which is the same as others.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher as _, RandomState};

use serde_json::{Value, json};
use tenon_sdk::{
    CachePolicy, Caching, Failure, HostCall, Inference, Outputs, Postprocessing, Preprocessing, Rejection, Request,
    Response, Step, Tensor, json::body,
};

const ELEMENTS: usize = 16;

/// One invocation.
#[derive(Debug, Default)]
pub struct Keeper {
    /// Which of the rows that were asked for by name are known.
    known: Vec<bool>,
}

impl Caching for Keeper {
    fn policy(&mut self, request: &Request) -> CachePolicy {
        let policy = CachePolicy::new();
        for (name, value) in request.query() {
            let ms = || value.parse().unwrap_or_default();
            match name.as_str() {
                "ttl" => policy.ttl_ms(ms()),
                "while" => policy.stale_while_revalidate_ms(ms()),
                "error" => policy.stale_if_error_ms(ms()),
                "negative" => policy.negative_ttl_ms(ms()),
                "key" => policy.key(value.as_bytes()),
                "header" => policy.header(&value),
                "tag" => policy.tag(&value),
                "class" => policy.compatibility_class(&value),
                "bypass" => policy.bypass(),
                "policy" => panic!("the policy was told to end badly"),
                _ => {}
            }
        }
        policy
    }
}

impl Preprocessing for Keeper {
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection> {
        match request.header("x-do").as_deref() {
            Some("trap") => panic!("the request was told to end badly"),
            Some("refuse") => return Err(refusal()),
            _ => {}
        }
        match request.path().as_str() {
            "/say" => Ok(said(request).or_trap().into()),
            "/refuse" => Err(refusal()),
            "/slow" => Ok(floats("slow", &[1.0]).or_trap().into()),
            "/numbers" => {
                let model = query(request, "model").unwrap_or_else(|| "identity".into());
                Ok(floats(&model, &numbers(&body(request)?)).or_trap().into())
            }
            "/ragged" => {
                let lists = body(request)?;
                let rows: Vec<Vec<i64>> =
                    items(&lists).map(|row| items(row).map(|id| id.as_i64().unwrap_or_default()).collect()).collect();
                let ids = Tensor::ragged(&rows).or_trap();
                Ok(Inference::new("ragged").input("ids", &ids).or_trap().into())
            }
            "/named" => Ok(self.named(&body(request)?).or_trap().into()),
            path => Err(Rejection::new(404, "no-such-path", format!("nothing is done at `{path}`"))),
        }
    }
}

impl Keeper {
    fn named(&mut self, rows: &Value) -> Result<Inference, Failure> {
        let keys: Vec<Vec<u8>> = items(rows).map(|row| row[0].as_str().unwrap_or_default().into()).collect();
        let inference = Inference::new("identity");
        self.known = inference.reuse(&keys);
        let unknown = items(rows).zip(&self.known).filter(|(_, known)| !**known);
        let values: Vec<f32> = unknown.map(|(row, _)| row[1].as_f64().unwrap_or_default() as f32).collect();
        if values.is_empty() {
            return Ok(inference);
        }
        inference.input("x", &tensor(&values)?)
    }
}

impl Postprocessing for Keeper {
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection> {
        if request.path() == "/slow" {
            return Ok(said(request).or_trap().into());
        }
        let answer = if request.path() == "/ragged" {
            let same = outputs[0].tensor("same").and_then(|same| same.rows::<i64>()).or_trap();
            let total: Vec<i64> = outputs[0].tensor("total").and_then(|total| total.values()).or_trap();
            json!({ "same": same.iter().collect::<Vec<_>>(), "total": total, "stamp": stamp() })
        } else {
            let y = outputs[0].tensor("y").and_then(|y| y.rows::<f32>()).or_trap();
            let first: Vec<f32> = y.iter().map(|row| row[0]).collect();
            let whole = y.iter().all(|row| row.len() == ELEMENTS && row.iter().all(|value| *value == row[0]));
            json!({ "y": first, "whole": whole, "known": self.known, "stamp": stamp() })
        };
        Ok(Response::json(200, &answer).or_trap().into())
    }
}

fn said(request: &Request) -> Result<Response, Failure> {
    let text = String::from_utf8_lossy(&request.body()).into_owned();
    Response::json(200, &json!({ "said": text, "stamp": stamp() }))
}

fn refusal() -> Rejection {
    Rejection::new(422, "told-to", stamp())
}

/// Of a fresh instance, random each time.
fn stamp() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

fn floats(model: &str, values: &[f32]) -> Result<Inference, Failure> {
    Inference::new(model).input("x", &tensor(values)?)
}

fn tensor(values: &[f32]) -> Result<Tensor, Failure> {
    let elements: Vec<f32> = values.iter().flat_map(|value| [*value; ELEMENTS]).collect();
    Tensor::fixed(&[values.len() as u64, ELEMENTS as u64], &elements)
}

fn numbers(list: &Value) -> Vec<f32> {
    items(list).map(|value| value.as_f64().unwrap_or_default() as f32).collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn query(request: &Request, name: &str) -> Option<String> {
    request.query().into_iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
}

tenon_sdk::export!(Keeper: caching, preprocessing, postprocessing);
