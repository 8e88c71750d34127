//! Lets `cargo run` and `cargo test` find libtorch without `LD_LIBRARY_PATH`: the loader's search path goes into the
//! binaries. It must name the real `torch/lib` (through a symbolic link `$ORIGIN` would point beside the CUDA wheels).

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=host/build.rs");
    let Some(link) = env::var_os("LIBTORCH") else {
        println!("cargo::warning=libtorch is not set up: run `make libtorch`");
        return;
    };
    if let Ok(real) = Path::new(&link).join("lib/libtorch_cpu.so").canonicalize()
        && let Some(folder) = real.parent()
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}
