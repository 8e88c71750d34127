//! The protocol over gRPC: the service `inference.GRPCInferenceService`, on the port of everything else.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header},
    response::IntoResponse as _,
    routing::post,
};
use bytes::Bytes;

use super::{
    EXTENSIONS, NAME, Open, Refused,
    framing::{Code, Message, answer, framed, status, succeeded, timeout},
    messages::{
        ChangeRequest, Empty, Index, IndexRequest, ModelIndex, ModelMetadata, ModelName, ServerMetadata, Truth,
    },
    small,
};
use crate::{
    access::Caller,
    function::{Asked, InvokeError, RepositoryChange, oip::Form},
    http::{
        answer as written,
        handle::{Head, text},
        incoming,
        problem::Problem,
    },
    tenant::Priority,
};

type Answered = Result<Bytes, Refused>;

pub(super) fn routes() -> Router<Arc<Open>> {
    Router::new().route("/inference.GRPCInferenceService/{method}", post(call))
}

async fn call(
    State(open): State<Arc<Open>>,
    Extension(head): Extension<Head>,
    method: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let is_grpc = text(request.headers(), "content-type").is_some_and(|kind| {
        let rest = kind.strip_prefix("application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest == "+proto" || rest.starts_with(';'))
    });
    if !is_grpc || request.version() < Version::HTTP_2 {
        // As gRPC asks of servers, so that proxies see it.
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if text(request.headers(), "grpc-encoding").is_some_and(|coding| coding != "identity") {
        let mut refused = status(Code::Unimplemented, "packed messages are not read here; send them as they are");
        refused.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
        return refused;
    }
    // What is not even text is no method.
    let method = method.map_or_else(|_| String::new(), |Path(method)| method);
    if method == "ModelInfer" {
        return infer(&open, &head, request).await;
    }
    match small(&open, &head, &method, request).await {
        Ok(message) => answer(message),
        Err(problem) => refusal(*problem),
    }
}

fn refusal(problem: Problem) -> Response<Body> {
    let (code, detail) = (Code::of(problem.status()), problem.detail().to_owned());
    let after = problem.into_response().headers_mut().remove(header::RETRY_AFTER);
    let mut refused = status(code, &detail);
    if let Some(after) = after {
        refused.headers_mut().insert(header::RETRY_AFTER, after);
    }
    refused
}

async fn infer(open: &Open, head: &Head, request: Request) -> Response<Body> {
    let asked = match wanted(request.headers(), head) {
        Err(problem) => return refusal(*problem),
        Ok((timeout, priority)) => Asked {
            id: head.id.clone(),
            model: None,
            form: Form::Protobuf,
            timeout,
            priority,
            pack: None,
            arrived: head.arrived,
            trace: head.trace,
            caller: request.extensions().get::<Caller>().cloned().unwrap_or_default(),
        },
    };
    let outcome = open.runtime.infer(asked, Message::new(request.into_body())).await;
    let well = outcome.result.is_ok();
    let response = written::write_as(outcome, head, |error| refusal(Problem::of(&error, &head.id)));
    if well { succeeded(response) } else { response }
}

/// How long the caller would wait, and how urgent it is.
fn wanted(headers: &HeaderMap, head: &Head) -> Result<(Option<std::time::Duration>, Priority), Refused> {
    let timeout = wanted_timeout(headers, head)?;
    let priority = incoming::priority(headers);
    Ok((timeout, priority.map_err(|detail| Box::new(Problem::new("bad-request", detail, &head.id)))?))
}

fn wanted_timeout(headers: &HeaderMap, head: &Head) -> Result<Option<std::time::Duration>, Refused> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let wanted = value.to_str().ok().and_then(timeout);
    let wrong = || {
        let detail = "grpc-timeout is up to eight digits and one of HMSmun";
        Box::new(Problem::new("bad-request", detail, &head.id))
    };
    wanted.map(Some).ok_or_else(wrong)
}

/// Methods that bring and take no tensors.
async fn small(open: &Open, head: &Head, method: &str, request: Request) -> Answered {
    let of = |error: InvokeError| Box::new(Problem::of(&error, &head.id));
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.remove::<Caller>().unwrap_or_default();
    let change = match method {
        "RepositoryModelLoad" => Some(RepositoryChange::Load),
        "RepositoryModelUnload" => Some(RepositoryChange::Unload),
        _ => None,
    };
    if change.is_some() {
        open.admit(&parts.headers, head)?;
    }
    let message = small::read(Message::new(body), head).await?;
    if let Some(change) = change {
        let asked: ChangeRequest = decoded(message, head)?;
        open.change(change, &asked.model_name, asked.parameters.into_keys(), head).await?;
        return Ok(framed(&Empty {}));
    }
    let runtime = &open.runtime;
    let message = match method {
        "ServerLive" => framed(&Truth { is: true }),
        "ServerReady" => framed(&Truth { is: runtime.ready().is_ok() }),
        "ServerMetadata" => framed(&ServerMetadata {
            name: NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }),
        "ModelReady" => {
            let asked: ModelName = decoded(message, head)?;
            framed(&Truth { is: runtime.model_ready(&caller, &asked.name, &asked.version).map_err(of)? })
        }
        "ModelMetadata" => {
            let asked: ModelName = decoded(message, head)?;
            framed(&ModelMetadata::from(runtime.model_metadata(&caller, &asked.name, &asked.version).map_err(of)?))
        }
        "RepositoryIndex" => {
            let asked: IndexRequest = decoded(message, head)?;
            let models = runtime.repository_index(&caller, asked.ready).into_iter().map(ModelIndex::from).collect();
            framed(&Index { models })
        }
        _ => return Err(Box::new(Problem::new("not-offered", "this method is not offered here", &head.id))),
    };
    Ok(message)
}

fn decoded<M: prost::Message + Default>(message: Bytes, head: &Head) -> Result<M, Refused> {
    M::decode(message).map_err(|error| Box::new(Problem::new("bad-request", error.to_string(), &head.id)))
}
