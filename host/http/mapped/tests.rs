//! Tables of right and wrong routes.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    route: Vec<Route>,
}

fn read(text: &str) -> Result<Mapped, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    Mapped::new(&file.route)
}

fn one(path: &str, more: &str) -> Result<Mapped, String> {
    read(&format!("[[route]]\npath = \"{path}\"\nfunction = \"demo/f\"\n{more}"))
}

/// What the function sees of a path, if it is a route's.
fn seen(mapped: &Mapped, path: &str) -> Option<String> {
    mapped.find(path).map(|line| line.place(path).path.unwrap())
}

#[test]
fn an_exact_path_is_only_itself() {
    let mapped = one("/rerank", "").unwrap();
    assert_eq!(seen(&mapped, "/rerank").as_deref(), Some("/rerank"));
    for other in ["/rerank/", "/rerank/x", "/Rerank", "/%72erank", "//rerank", "/", ""] {
        assert_eq!(seen(&mapped, other), None, "{other}");
    }
    let place = mapped.find("/rerank").unwrap().place("/rerank");
    assert_eq!((&*place.tenant, &*place.function, place.revision, place.methods), ("demo", "f", None, Methods::Both));
}

#[test]
fn a_tail_is_whatever_follows_and_the_longest_wins() {
    let mapped = read(
        "[[route]]\npath = \"/a/{*rest}\"\nfunction = \"demo/f\"\n\
         [[route]]\npath = \"/a/b/{*rest}\"\nfunction = \"demo/f\"\nto = \"/c/{*rest}\"\n\
         [[route]]\npath = \"/a/b/d\"\nfunction = \"demo/f\"\nto = \"\"\n\
         [[route]]\npath = \"/z/{*rest}\"\nfunction = \"demo/f\"\nto = \"/all\"\n",
    );
    let mapped = mapped.unwrap();
    for (path, expected) in [
        ("/a/", None),
        ("/a", None),
        ("/a/x", Some("/a/x")),
        ("/a/x/%20y", Some("/a/x/ y")),
        ("/a/b/", Some("/a/b/")),
        ("/a/b/x/", Some("/c/x/")),
        ("/a/b/d", Some("")),
        ("/a/b/d/e", Some("/c/d/e")),
        ("/z/1", Some("/all")),
    ] {
        assert_eq!(seen(&mapped, path).as_deref(), expected, "{path}");
    }
    assert_eq!(mapped.find("/a/%ff").unwrap().place("/a/%ff").path, None);
    assert_eq!(mapped.lines().filter(|line| line.has_tail()).count(), 3);
    assert!(mapped.lines().any(|line| line.shown() == "/a/b/{rest}"));
}

#[test]
fn methods_and_shapes() {
    for (more, methods) in [
        ("", Methods::Both),
        ("methods = [\"POST\"]", Methods::Post),
        ("methods = [\"GET\", \"GET\"]", Methods::Get),
        ("methods = [\"POST\", \"GET\"]", Methods::Both),
    ] {
        assert_eq!(one("/a", more).unwrap().find("/a").unwrap().methods, methods, "{more}");
    }
    let mapped = one("/a", "errors = \"cohere\"").unwrap();
    assert_eq!(mapped.find("/a").unwrap().errors, Some(ErrorShape::Cohere));
}

#[test]
fn what_others_have_may_stand_beside_the_hosts_own() {
    for path in
        ["/v2/rerank", "/v1/rerank", "/v1/embeddings", "/", "/v2/rerank/{*rest}", "/healthz", "/v1/modelsx", "/a/"]
    {
        assert!(one(path, "").is_ok(), "{path}: {:?}", one(path, "").err());
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (path, more, named) in [
        ("/v1/functions", "", "host's own"),
        ("/v1/functions/demo/f", "", "/v1/functions"),
        ("/v1/models", "", "/v1/models"),
        ("/v1/{*rest}", "", "would hide it"),
        ("/v2", "", "/v2"),
        ("/v2/", "", "/v2"),
        ("/v2/{*rest}", "", "/v2"),
        ("/v2/models/m/infer", "", "/v2/models"),
        ("/health/ready", "", "/health"),
        ("/health/{*rest}", "", "/health"),
        ("/openapi.json", "", "/openapi.json"),
        ("/inference.GRPCInferenceService/ModelInfer", "", "GRPC"),
        ("/{*rest}", "", "all there is"),
        ("", "", "begins with a slash"),
        ("rerank", "", "begins with a slash"),
        ("/a{*rest}", "", "follows a slash"),
        ("/a/{*rest}/b", "", "may end in `/{*rest}`"),
        ("/a/{id}", "", "has `{`"),
        ("/a b", "", "has ` `"),
        ("/a%20b", "", "has `%`"),
        ("/a?b", "", "has `?`"),
        ("/ä", "", "has `ä`"),
        ("/a//b", "", "`//`"),
        ("/a/../b", "", "`/../`"),
        ("//", "", "`//`"),
        ("/a", "to = \"b\"", "to begins with a slash"),
        ("/a", "to = \"/b/{*rest}\"", "and path does not"),
        ("/a", "to = \"/b c\"", "to has ` `"),
        ("/a", "methods = []", "nobody could call it"),
        ("/a", "methods = [\"DELETE\"]", "unknown variant `DELETE`"),
        ("/a", "methods = [\"post\"]", "unknown variant `post`"),
        ("/a", "errors = \"openapi\"", "`openai`"),
        ("/a", "error = \"tei\"", "unknown field `error`"),
        ("/a", "[[route]]\npath = \"/a\"\nfunction = \"demo/g\"", "route 2 (`/a`): path is a second time the same"),
    ] {
        let refused = one(path, more).expect_err(path);
        assert!(refused.contains(named), "{path} {more}: {refused}");
    }
    let long = one(&format!("/{}", "a".repeat(MAX_PATH_BYTES)), "").unwrap_err();
    assert!(long.contains("257 bytes, at most 256") && long.len() < 200, "{long}");
    for function in ["reranker", "demo/", "/f", "demo/F", "demo/f@3", "demo/f/x", ""] {
        let refused = read(&format!("[[route]]\npath = \"/a\"\nfunction = \"{function}\"")).unwrap_err();
        assert!(refused.contains("function is `tenant/function`"), "{function}: {refused}");
    }
    assert!(read("[[route]]\npath = \"/a\"").unwrap_err().contains("missing field `function`"));
    let many: String =
        (0..=MAX_ROUTES).map(|n| format!("[[route]]\npath = \"/{n}\"\nfunction = \"demo/f\"\n")).collect();
    assert!(read(&many).unwrap_err().contains("at most 256 routes, not 257"));
}
