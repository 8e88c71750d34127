//! The protocol over HTTP: below `/v2`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{FromRequestParts, Path, Request, State},
    http::{Response, StatusCode, request::Parts},
    response::IntoResponse as _,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    EXTENSIONS, NAME, Open, Refused,
    coding::{Unpacked, packing},
    empty, refusal, small,
};
use crate::{
    access::Caller,
    function::{
        Asked, InvokeError, RepositoryChange,
        oip::{self, Form, HEADER_LENGTH},
    },
    http::{
        answer,
        handle::Head,
        incoming::{self, WireBody},
        problem::Problem,
        routes::Routes,
    },
};

/// A model, and a version where the path names one.
#[derive(Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response<Body>;

    /// As the path says; where that cannot be read, the refusal has the protocol's shape, too.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response<Body>> {
        Path::<Self>::from_request_parts(parts, state).await.map(|Path(named)| named).map_err(|_| {
            let id = parts.extensions.get::<Head>().map_or("", |head| &head.id);
            refusal(Problem::new("bad-request", "the model's name or version in the path is not UTF-8", id))
        })
    }
}

type Here = State<Arc<Open>>;

pub(super) fn routes() -> Routes<Arc<Open>> {
    let mut routes = Routes::new()
        .get("/v2", server)
        .get("/v2/health/live", async || empty(StatusCode::OK))
        .get("/v2/health/ready", ready)
        .post("/v2/repository/index", index)
        .post("/v2/repository/models/{model}/load", load)
        .post("/v2/repository/models/{model}/unload", unload)
        .any("/v2/{*rest}", nothing, &[]);
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        routes = routes
            .get(model, metadata)
            .get(&format!("{model}/ready"), model_ready)
            .post(&format!("{model}/infer"), infer);
    }
    routes.map(|router| router.method_not_allowed_fallback(wrong_method))
}

async fn server() -> Json<Value> {
    Json(json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

async fn ready(State(open): Here, Extension(head): Extension<Head>) -> Response<Body> {
    match open.runtime.ready() {
        Ok(()) => empty(StatusCode::OK),
        Err(reason) => refusal(Problem::new("not-ready", reason, &head.id)),
    }
}

async fn metadata(
    State(open): Here,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    named: Named,
) -> Response<Body> {
    told(open.runtime.model_metadata(&caller, &named.model, &named.version).map(Json), &head)
}

async fn model_ready(
    State(open): Here,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    named: Named,
) -> Response<Body> {
    match open.runtime.model_ready(&caller, &named.model, &named.version) {
        Ok(true) => Json(json!({ "name": named.model, "ready": true })).into_response(),
        Ok(false) => refusal(Problem::new("model-unavailable", "the model does not serve", &head.id)),
        Err(error) => refusal(Problem::of(&error, &head.id)),
    }
}

async fn infer(State(open): Here, Extension(head): Extension<Head>, named: Named, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (asked, body) = match understood(parts, named, body, &head) {
        Ok(understood) => understood,
        Err(problem) => return refusal(*problem),
    };
    let outcome = open.runtime.infer(asked, body).await;
    answer::write_as(outcome, &head, |error| refusal(Problem::of(&error, &head.id)))
}

/// What the head of an inference says.
fn understood(parts: Parts, named: Named, body: Body, head: &Head) -> Result<(Asked, Unpacked), Refused> {
    let headers = &parts.headers;
    let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
    let problem = |code, detail: String| Box::new(Problem::new(code, detail, &head.id));
    let timeout = incoming::timeout(headers).map_err(|detail| problem("bad-request", detail))?;
    let priority = incoming::priority(headers).map_err(|detail| problem("bad-request", detail))?;
    let lengths = headers.get_all(HEADER_LENGTH).iter().map(|value| value.as_bytes());
    let header_bytes = oip::header_bytes(lengths).map_err(|detail| problem("bad-request", detail))?;
    let body = Unpacked::new(headers, body).map_err(|coding| {
        problem("unsupported-coding", format!("{coding} is not understood here; gzip, deflate and identity are"))
    })?;
    let asked = Asked {
        id: head.id.clone(),
        model: Some((named.model, named.version)),
        form: Form::Json { header_bytes },
        timeout,
        priority,
        pack: packing(headers),
        arrived: head.arrived,
        trace: head.trace,
        caller,
    };
    Ok((asked, body))
}

/// What may be said with a change or a question about the repository.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    ready: bool,
    parameters: serde_json::Map<String, Value>,
}

async fn said(body: Body, head: &Head) -> Result<Said, Refused> {
    let body = small::read(WireBody::new(body), head).await?;
    let said = if body.is_empty() { Ok(Said::default()) } else { serde_json::from_slice(&body) };
    said.map_err(|error| Box::new(Problem::new("bad-request", error.to_string(), &head.id)))
}

async fn index(
    State(open): Here,
    Extension(head): Extension<Head>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    match said(request.into_body(), &head).await {
        Ok(said) => Json(open.runtime.repository_index(&caller, said.ready)).into_response(),
        Err(problem) => refusal(*problem),
    }
}

async fn load(open: Here, head: Extension<Head>, named: Named, request: Request) -> Response<Body> {
    change(RepositoryChange::Load, open, (head, named), request).await
}

async fn unload(open: Here, head: Extension<Head>, named: Named, request: Request) -> Response<Body> {
    change(RepositoryChange::Unload, open, (head, named), request).await
}

async fn change(
    change: RepositoryChange,
    State(open): Here,
    (Extension(head), named): (Extension<Head>, Named),
    request: Request,
) -> Response<Body> {
    let changed = async {
        open.admit(request.headers(), &head)?;
        let said = said(request.into_body(), &head).await?;
        open.change(change, &named.model, said.parameters.into_iter().map(|(name, _)| name), &head).await
    };
    match changed.await {
        Ok(()) => empty(StatusCode::OK),
        Err(problem) => refusal(*problem),
    }
}

fn told(told: Result<impl axum::response::IntoResponse, InvokeError>, head: &Head) -> Response<Body> {
    told.map_or_else(|error| refusal(Problem::of(&error, &head.id)), axum::response::IntoResponse::into_response)
}

/// Extensions that this host has not, and everything else.
async fn nothing(Extension(head): Extension<Head>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let below = path.strip_prefix("/v2/").unwrap_or(path);
    let extensions = ["systemsharedmemory", "cudasharedmemory", "trace", "logging"];
    let of_models = ["/config", "/stats", "/trace/setting", "/generate", "/generate_stream"];
    let first = below.split('/').next().unwrap_or_default();
    if extensions.contains(&first) || (first == "models" && of_models.iter().any(|end| below.ends_with(end))) {
        let detail = "shared memory, tracing and logging settings, configuration and statistics are not offered here";
        return refusal(Problem::new("not-offered", detail, &head.id));
    }
    let detail = "nothing is at this path of the Open Inference Protocol; try /v2, /v2/models/<model>";
    refusal(Problem::new("not-found", detail, &head.id))
}

async fn wrong_method(Extension(head): Extension<Head>, request: Request) -> Response<Body> {
    let detail = format!("{} is not for this path", request.method());
    refusal(Problem::new("method-not-allowed", detail, &head.id))
}
