//! Paths that an operator mapped to functions, and errors in the shapes of other services: over the wire, as old clients
//! ask and as they read.

use serde_json::{Value, json};

use crate::{
    deploying::stamped,
    raw::Raw,
    support::{Answer, Served, TestHost, rewrite},
};

/// Errors' shapes, each with how a client reads what is wrong in it.
const SHAPES: [(&str, &str, &str); 5] = [
    ("problem", "application/problem+json", "/detail"),
    ("openai", "application/json", "/error/message"),
    ("tei", "application/json", "/error"),
    ("cohere", "application/json", "/message"),
    ("jina", "application/json", "/detail"),
];

/// More than the probe takes.
const OVER_LIMIT: usize = (1 << 20) + 1;

pub fn routed(test: TestHost, routes: Value) -> TestHost {
    test.config(|config| config.routes = serde_json::from_value(routes).unwrap())
}

/// The probe under a name for each shape, with errors in it.
fn shaped(test: TestHost) -> TestHost {
    SHAPES.iter().fold(test.probe(), |test, (shape, ..)| {
        let name = format!("in-{shape}");
        let test = test.function_as("test", &name, "probe");
        let errors = format!("component = \"probe.wasm\"\nerrors = \"{shape}\"");
        test.changed_function(&name, &[("component = \"probe.wasm\"", &errors)])
    })
}

impl Served {
    async fn asked(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.client.request(method, format!("{}{path}", self.base)).body(body);
        let asked = headers.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
        Answer::of(asked.send().await.unwrap()).await
    }
}

/// What an error says, in the shape of this name.
fn said(answer: &Answer, shape: &str) -> String {
    let (_, content_type, pointer) = SHAPES.iter().find(|(name, ..)| *name == shape).unwrap();
    assert_eq!(answer.header("content-type"), *content_type, "{shape}: {}", answer.text());
    let document = answer.json();
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{shape}: {document}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_paths_lead_to_functions() {
    let routes = json!([
        { "path": "/old", "function": "test/probe", "to": "/echo" },
        { "path": "/deep/{*rest}", "function": "test/probe", "to": "/{*rest}" },
        { "path": "/echo", "function": "test/probe" },
        { "path": "/v2/rerank", "function": "test/probe", "to": "/echo" },
        { "path": "/only", "function": "test/probe", "to": "/echo", "methods": ["POST"] },
    ]);
    let host = routed(TestHost::new().probe(), routes).start().await;
    for (path, seen) in [
        ("/old?x=1&y", "/echo"),
        ("/deep/echo?x=1&y", "/echo"),
        ("/echo?x=1&y", "/echo"),
        ("/v2/rerank?x=1&y", "/echo"),
    ] {
        let answer =
            host.asked("POST", path, &[("x-own", "kept"), ("authorization", "Bearer x")], b"hello".into()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let told = answer.json();
        assert_eq!((&told["path"], &told["body"], &told["method"]), (&json!(seen), &json!("hello"), &json!("POST")));
        assert_eq!(told["query"], json!([["x", "1"], ["y", ""]]));
        assert!(told["headers"].to_string().contains("kept") && !told["headers"].to_string().contains("Bearer"));
        // As by the function's own path.
        assert_eq!((answer.header("x-tenon-revision"), answer.header("x-tenon-cache")), ("1", "bypass"));
        assert!(
            answer.header("server-timing").contains("preprocess;dur=") && !answer.header("x-request-id").is_empty()
        );
    }
    let get = host.get("/old").await;
    assert_eq!((get.status, &get.json()["method"]), (200, &json!("GET")));
    for (method, path, allow) in [
        ("DELETE", "/old", "GET, POST"),
        ("OPTIONS", "/old", "GET, POST"),
        ("GET", "/only", "POST"),
        ("PUT", "/only", "POST"),
    ] {
        let answer = host.asked(method, path, &[], Vec::new()).await;
        answer.is_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    let mut raw = Raw::begin(&host, "HEAD /old HTTP/1.1", b"").await;
    assert!(raw.head_only().await.starts_with("HTTP/1.1 405"));
    // What is no route is what it was.
    for (path, code) in [("/old/", "not-found"), ("/deep/", "not-found"), ("/deep", "not-found"), ("/Old", "not-found")]
    {
        host.post(path, "").await.is_problem(404, code);
    }
    assert!(host.post("/v2/rerankers", "").await.json()["error"].is_string(), "the protocol's own shape");
    assert_eq!(host.get("/v2").await.json()["name"], "tenon");
    host.post("/deep/%ff", "").await.is_problem(400, "bad-request");
    host.post("/deep/trap", "").await.is_problem(502, "plugin-trap");
    assert!(host.metric("tenon_invocations_total{function=\"probe\",outcome=\"ok\",tenant=\"test\"}") >= 5.0);
    let document = host.get("/openapi.json").await.json();
    assert_eq!(document["paths"]["/only"]["post"]["summary"], "Invoke `test/probe`");
    assert!(document["paths"]["/only"]["get"].is_null() && document["paths"]["/deep/{rest}"]["get"].is_object());
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_in_each_shape() {
    let host = shaped(TestHost::new()).start().await;
    for (method, path, headers, body, status, code) in [
        ("POST", "/trap", &[][..], 0, 502, "plugin-trap"),
        ("POST", "/nothing", &[], 0, 502, "plugin-contract"),
        ("POST", "/memory", &[], 0, 502, "plugin-memory"),
        ("POST", "/lookup?values=1,2,3,60", &[], 0, 502, "model-failed"),
        ("POST", "/rows?n=2000", &[], 0, 413, "too-many-rows"),
        ("POST", "/echo", &[], OVER_LIMIT, 413, "body-too-large"),
        ("POST", "/slow", &[("x-tenon-timeout-ms", "20")], 0, 504, "deadline-exceeded"),
        ("POST", "/echo", &[("x-tenon-timeout-ms", "0")], 0, 400, "bad-request"),
        ("POST", "/%ff", &[], 0, 400, "bad-request"),
        ("DELETE", "/echo", &[], 0, 405, "method-not-allowed"),
        ("POST", "@7/echo", &[], 0, 404, "revision-not-found"),
        ("POST", "/nowhere", &[], 0, 404, "no-such-probe"),
        ("POST", "/reject?status=422&code=bad-thing&pointer=/a/3", &[], 0, 422, "bad-thing"),
        ("POST", "/reject?status=429&code=empty-purse", &[], 0, 429, "empty-purse"),
    ] {
        let ask = async |shape: &str| {
            let path = format!("/v1/functions/test/in-{shape}{path}");
            host.asked(method, &path, headers, vec![b'x'; body]).await
        };
        let plain = ask("problem").await;
        let problem = plain.is_problem(status, code);
        for (shape, ..) in SHAPES {
            let answer = ask(shape).await;
            assert_eq!(answer.status, status, "{shape} {path}: {}", answer.text());
            for name in ["allow", "x-probe", "x-tenon-revision", "x-tenon-cache"] {
                assert_eq!(answer.header(name), plain.header(name), "{shape} {path}: {name}");
            }
            assert!(!answer.header("x-request-id").is_empty() && !answer.header("traceparent").is_empty());
            let said = said(&answer, shape);
            // Functions have names of their own, and no two ran into the same address.
            let alike = ["revision-not-found", "plugin-memory"].contains(&code)
                || said.starts_with(problem["detail"].as_str().unwrap());
            assert!(alike && !said.is_empty(), "{shape} {path}: {said}");
            let document = answer.json();
            match shape {
                "openai" => {
                    assert_eq!(document["error"]["code"], code);
                    assert_eq!(
                        document["error"]["param"],
                        if code == "bad-thing" { json!("a[3]") } else { json!(null) }
                    );
                    assert_eq!(document["error"].as_object().unwrap().len(), 4);
                }
                "tei" => {
                    let kinds = ["validation", "backend", "overloaded", "empty"];
                    assert!(kinds.contains(&document["error_type"].as_str().unwrap()), "{document}");
                }
                "cohere" => assert_eq!(document["id"], answer.header("x-request-id")),
                _ => {}
            }
            assert_eq!(code == "bad-thing" && shape != "problem" && shape != "openai", said.ends_with("(at /a/3)"));
        }
    }
    // Its own body is the plugin's affair.
    for (shape, ..) in SHAPES {
        let own = host.call(&format!("in-{shape}/reject?status=418&body=mine"), "").await;
        assert_eq!((own.status, &*own.text(), own.header("content-type")), (418, "mine", "text/plain"));
    }
    host.all_back_to_zero().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_in_the_shape_of_whoever_asks() {
    let routes = json!([{ "path": "/rerank", "function": "test/in-openai", "to": "/echo", "errors": "tei" }]);
    let limits = [("[limits]", "[limits]\nmax_concurrency = 1")];
    let host = routed(shaped(TestHost::new()).changed_function("in-openai", &limits), routes).start().await;
    let holder = Raw::upload(&host, "in-openai/echo").await;
    host.in_flight(1).await;
    let (direct, by_route) = (host.call("in-openai/echo", "").await, host.post("/rerank", "").await);
    for answer in [&direct, &by_route] {
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(direct.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        (&by_route.json()["error_type"], by_route.header("content-type")),
        (&json!("overloaded"), "application/json")
    );
    drop(holder);
    host.all_back_to_zero().await;
    assert_eq!(host.post("/rerank", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_nobody_and_one_that_has_no_shape_of_its_own() {
    let routes = json!([
        { "path": "/gone", "function": "test/nobody", "errors": "cohere" },
        { "path": "/plain", "function": "test/nobody" },
        { "path": "/jina", "function": "test/in-jina", "to": "/trap" },
        { "path": "/problem", "function": "test/in-jina", "to": "/trap", "errors": "problem" },
    ]);
    let host = routed(shaped(TestHost::new()), routes).start().await;
    let gone = host.post("/gone", "").await;
    assert_eq!((gone.status, &*said(&gone, "cohere")), (404, "there is no function `test/nobody`"));
    host.post("/plain", "").await.is_problem(404, "function-not-found");
    let jina = host.post("/jina", "").await;
    assert!(jina.status == 502 && said(&jina, "jina").contains("trap"), "{}", jina.text());
    host.post("/problem", "").await.is_problem(502, "plugin-trap");
    // Deployed meanwhile, it is found.
    host.get("/health/ready").await;
    let folder = host.folder.path().join("functions/test");
    let (from, to) = (folder.join("in-tei"), folder.join("nobody"));
    std::fs::create_dir(&to).unwrap();
    for file in ["probe.wasm", "function.toml"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    crate::support::eventually("the function is there", async || {
        host.post("/plain", "").await.status == 404
            && host.post("/plain", "").await.json()["error_type"] == "validation"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_in_the_shape_of_the_route() {
    let routes = json!([
        { "path": "/v1/embeddings", "function": "shop/stamp", "to": "/work", "errors": "openai" },
        { "path": "/other", "function": "shop/stamp", "to": "/work" },
    ]);
    let test = TestHost::new().models(&["identity"]).config(|config| config.auth.required = true);
    let host = routed(test, routes).start().await;
    host.deployed("shop/stamp", "?promote=true", &stamped(1), 1).await;
    let key = async |tenant: &str| {
        let body = json!({ "name": "test", "scopes": ["invoke"] });
        let made = host.asks("POST", &format!("/admin/v1/tenants/{tenant}/keys"), Some(body), &host.token()).await;
        format!("Bearer {}", made.json()["key"].as_str().unwrap())
    };
    let (own, foreign) = (key("shop").await, key("rival").await);
    for (bearer, status, kind) in [
        (None, 401, "authentication_error"),
        (Some("Bearer tnk_no"), 401, "authentication_error"),
        (Some(&*foreign), 403, "permission_error"),
    ] {
        let headers: Vec<_> = bearer.map(|bearer| ("authorization", bearer)).into_iter().collect();
        let answer = host.asked("POST", "/v1/embeddings", &headers, Vec::new()).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &json!(kind)), "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        let other = host.asked("POST", "/other", &headers, Vec::new()).await;
        other.is_problem(status, if status == 401 { "unauthenticated" } else { "forbidden" });
    }
    let good = host.asked("POST", "/v1/embeddings?turns=1", &[("authorization", &own)], Vec::new()).await;
    assert_eq!(good.status, 200, "{}", good.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_make_no_sense_keep_a_host_from_starting() {
    for (route, named) in [
        (
            json!({ "path": "/v1/functions/x", "function": "a/b" }),
            "route 1 (`/v1/functions/x`): path is the host's own",
        ),
        (json!({ "path": "/x", "function": "b" }), "route 1 (`/x`): function is `tenant/function`"),
    ] {
        let refused = routed(TestHost::new(), json!([route])).try_start().await.err().expect("refused").to_string();
        assert!(refused.contains(named), "{refused}");
    }
    // As a file has it, the nearest known key is named, and the line.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenon.toml");
    std::fs::write(&file, "[[route]]\npath = \"/a\"\nfunction = \"a/b\"\n").unwrap();
    let flags = tenon_host::config::Flags { config: Some(file.clone()), ..Default::default() };
    assert_eq!(tenon_host::config::Config::load(&flags).unwrap().routes.len(), 1);
    rewrite(&file, &[("function", "funtion")]);
    let refused = tenon_host::config::Config::load(&flags).unwrap_err().to_string();
    assert!(refused.contains("did you mean `function`?") && refused.contains("line 3"), "{refused}");
    rewrite(&file, &[("funtion", "function"), ("/a", "/health/x")]);
    let refused = tenon_host::config::Config::load(&flags).unwrap_err().to_string();
    assert!(refused.contains("route 1") && refused.contains("/health"), "{refused}");
}
