//! stub
#[cfg(target_arch = "wasm32")]
pub mod plugin { wit_bindgen::generate!({ path: "wit", world: "plugin", generate_all }); }
#[cfg(target_arch = "wasm32")]
pub mod next { wit_bindgen::generate!({ path: "wit", world: "imports-next", generate_all }); }
