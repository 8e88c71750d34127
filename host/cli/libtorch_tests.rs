//! The search for libtorch, in folders that look like one.

use std::fs;

use tempfile::TempDir;

use super::*;

fn lay_out(site: &Path, version: &str) {
    let lib = site.join("torch/lib");
    fs::create_dir_all(&lib).unwrap();
    fs::write(lib.join(LIBRARY), "").unwrap();
    fs::write(site.join("torch/version.py"), format!("debug = False\n__version__ = '{version}'\n")).unwrap();
}

fn places(root: &TempDir) -> Places {
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("opt/bin")).unwrap();
    Places { explicit: None, binary_dir: Some(at("opt/bin")), checkout: at("checkout"), working_dir: at("work") }
}

#[test]
fn the_first_place_in_order_wins() {
    let root = TempDir::new().unwrap();
    let mut places = places(&root);
    assert!(places.find().unwrap_err().notes.len() == 4, "every place is named");

    let order = [
        "work/.tenon/libtorch/site",
        "checkout/.tenon/libtorch/site",
        "opt/bin/libtorch/site",
        "opt/lib/tenon/libtorch/site",
    ];
    for site in order {
        lay_out(&root.path().join(site), "2.11.0+cpu");
        let found = places.find().unwrap();
        assert_eq!(found.lib, root.path().canonicalize().unwrap().join(site).join("torch/lib"));
        assert_eq!(found.version, "2.11.0+cpu");
    }

    let own = root.path().join("own");
    lay_out(&own, "2.11.0");
    for named in ["own", "own/torch", "own/torch/lib"] {
        places.explicit = Some(root.path().join(named).into());
        let found = places.find().unwrap();
        assert_eq!((found.version.as_str(), found.found_by.as_str()), ("2.11.0", VARIABLE), "{named}");
    }
}

#[test]
fn a_wrong_variable_is_an_error_and_no_fall_back() {
    let root = TempDir::new().unwrap();
    let mut places = places(&root);
    lay_out(&root.path().join("checkout/.tenon/libtorch/site"), "2.11.0");
    places.explicit = Some(root.path().join("nowhere").into());
    assert!(places.find().unwrap_err().message.contains("holds no torch/version.py"));
}

#[test]
fn another_release_is_refused_by_name() {
    for version in ["2.10.0", "2.11.1", "2.11.0a0+git70d99e9", "12.11.0", "2.11.0.post1"] {
        let root = TempDir::new().unwrap();
        let places = places(&root);
        lay_out(&root.path().join("checkout/.tenon/libtorch/site"), version);
        // A right one further down does not help: the first one found decides.
        lay_out(&root.path().join("work/.tenon/libtorch/site"), "2.11.0");
        let failure = places.find().unwrap_err();
        assert!(failure.message.contains(version) && failure.message.contains("version.py"), "{failure}");
        assert_eq!(failure.exit, Exit::Environment);
        assert!(failure.hint.is_some());
    }
}

#[test]
fn half_a_libtorch_is_refused() {
    let root = TempDir::new().unwrap();
    let places = places(&root);
    let site = root.path().join("checkout/.tenon/libtorch/site");
    lay_out(&site, "2.11.0");
    fs::remove_file(site.join("torch/lib").join(LIBRARY)).unwrap();
    assert!(places.find().unwrap_err().message.contains("incomplete"));
    fs::write(site.join("torch/version.py"), "cuda = None\n").unwrap();
    assert!(places.find().unwrap_err().message.contains("states no __version__"));
}

#[test]
fn versions_are_read_as_text() {
    for (text, version) in [
        ("__all__ = ['__version__']\n__version__ = '2.11.0+cu130'\n", Some("2.11.0+cu130")),
        ("__version__: str = \"2.11.0\"", Some("2.11.0")),
        ("__version__ = ''", None),
        ("__version__ = version()", None),
        ("", None),
    ] {
        assert_eq!(version_in(text), version);
    }
}
