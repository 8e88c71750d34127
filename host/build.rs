//! Lets `cargo run` and `cargo test` find libtorch without `LD_LIBRARY_PATH`: the loader's search path goes into the
//! binaries. It must name the real `torch/lib` (through a symbolic link `$ORIGIN` would point beside the CUDA wheels).
//! And compiles the C++, with the flags that torch-sys uses for its own.

use std::{env, path::Path};

const SHIM: [&str; 3] = ["host/engine/torch/shim.cpp", "host/engine/torch/script.cpp", "host/engine/torch/aoti.cpp"];
const HEADER: &str = "host/engine/torch/said.h";

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=host/build.rs");
    SHIM.iter().chain([&HEADER]).for_each(|file| println!("cargo::rerun-if-changed={file}"));
    let Some(link) = env::var_os("LIBTORCH") else {
        println!("cargo::warning=libtorch is not set up: run `make libtorch`");
        return;
    };
    if let Ok(real) = Path::new(&link).join("lib/libtorch_cpu.so").canonicalize()
        && let Some(folder) = real.parent()
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
    let include = Path::new(&link).join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // It hands calls on, and is in every allocation's way, also in a debug build.
        .opt_level(1)
        // As a system folder: its warnings are not ours.
        .flag("-isystem")
        .flag(include.display().to_string())
        .files(SHIM)
        .compile("tenon_shim");
    name_of_libtorch();
}

/// A library with a name and nothing else: packages of AOTInductor ask for `libtorch.so`, which is one itself in PyPI's wheel,
/// and drags CUDA's half in.
fn name_of_libtorch() {
    let made = Path::new(&env::var_os("OUT_DIR").expect("cargo says where")).join("libtorch_name.so");
    let mut command = cc::Build::new().get_compiler().to_command();
    command.args(["-shared", "-nostdlib", "-Wl,-soname,libtorch.so", "-x", "c", "/dev/null", "-o"]).arg(&made);
    let ended = command.status().expect("the compiler that has just compiled can be started");
    assert!(ended.success(), "a library without anything in it could not be linked");
}
