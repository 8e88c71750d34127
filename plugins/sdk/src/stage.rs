//! The four stages as traits, and the line that exports them.
//!
//! Refuses to guess: exports are symbols, so the macro must be told the stages. One trait
//! with default methods would export all four, and the host could no longer tell an absent
//! stage from a default one. What is listed and what is implemented are compared when the
//! plugin is compiled, on every target.

use crate::{CachePolicy, Outputs, Rejection, Request, Step};

/// Is the request one that this function answers?
pub trait Validation {
    /// Accepts or refuses the request. Called once, before `preprocess`, in the same instance.
    fn validate(&mut self, request: &Request) -> Result<(), Rejection>;
}

/// How may the answer be remembered?
pub trait Caching {
    /// The policy for this request's answer. Perhaps called in an instance of its own: leave
    /// nothing in `self`.
    fn policy(&mut self, request: &Request) -> CachePolicy;
}

/// From the request to tensors.
pub trait Preprocessing {
    /// The first step: ask models, or answer.
    fn preprocess(&mut self, request: &Request) -> Result<Step, Rejection>;
}

/// From tensors to the answer.
pub trait Postprocessing {
    /// The next step; `outputs` has one entry for each inference of the last one, in order.
    fn postprocess(&mut self, request: &Request, outputs: Vec<Outputs>) -> Result<Step, Rejection>;
}

/// Exports the listed stages of a plugin: `export!(Reranker: validation, preprocessing);`
///
/// The plugin's type is made with `Default`, once for each invocation. A stage that is listed
/// and not implemented, or implemented and not listed, does not compile.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $($stage:ident),+ $(,)?) => {
        const _: fn() = || { $( $crate::stage::listed::$stage::<$plugin>(); )+ };
        const _: () = {
            #[allow(unused_imports, reason = "unused when all four stages are implemented")]
            use $crate::stage::probe::Absent as _;
            const IMPLEMENTED: usize = $crate::stage::probe::Validation::<$plugin>::HERE
                + $crate::stage::probe::Caching::<$plugin>::HERE
                + $crate::stage::probe::Preprocessing::<$plugin>::HERE
                + $crate::stage::probe::Postprocessing::<$plugin>::HERE;
            assert!(IMPLEMENTED <= [$(stringify!($stage)),+].len(), "a stage is implemented and not listed in export!");
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<$plugin> = ::core::default::Default::default();
            }
            impl $crate::stage::Singleton for $plugin {
                fn with<R>(stage: &str, call: impl FnOnce(&mut Self) -> R) -> R {
                    #[allow(unused_imports, reason = "unused where there is a validation")]
                    use $crate::stage::probe::Absent as _;
                    const VALIDATES: bool = $crate::stage::probe::Validation::<$plugin>::HERE == 1;
                    // Where instances serve again (`reuse`), what the last invocation left is that one's.
                    if $crate::stage::begins(stage, VALIDATES) {
                        PLUGIN.set(::core::default::Default::default());
                    }
                    PLUGIN.with_borrow_mut(call)
                }
            }
            type Exported = $crate::bindings::Exported<$plugin>;
            $( $crate::bindings::$stage::export!(Exported with_types_in $crate::bindings::$stage); )+
        };
    };
}

/// The one plugin value of this instance; `export!` implements it.
pub trait Singleton {
    /// Calls a stage on it; the first one of an invocation finds it as it is by default.
    fn with<R>(stage: &str, call: impl FnOnce(&mut Self) -> R) -> R;
}

/// Whether a stage is the first of its invocation.
pub fn begins(stage: &str, validates: bool) -> bool {
    stage == "validation" || stage == "caching" || (stage == "preprocessing" && !validates)
}

/// Says at the `export!` line that a listed stage is not implemented.
pub mod listed {
    /// Listed, so implemented.
    pub fn validation<P: crate::Validation>() {}
    /// Listed, so implemented.
    pub fn caching<P: crate::Caching>() {}
    /// Listed, so implemented.
    pub fn preprocessing<P: crate::Preprocessing>() {}
    /// Listed, so implemented.
    pub fn postprocessing<P: crate::Postprocessing>() {}
}

/// Counts the implemented stages: an inherent constant, where the bound holds, hides the trait's.
pub mod probe {
    use std::marker::PhantomData;

    /// The stage is not implemented, unless an inherent constant says otherwise.
    pub trait Absent {
        /// 1 where the stage is implemented.
        const HERE: usize = 0;
    }

    macro_rules! probe {
        ($($stage:ident)+) => { $(
            /// Whether this stage is implemented.
            pub struct $stage<P>(PhantomData<P>);
            impl<P: crate::$stage> $stage<P> {
                /// It is.
                pub const HERE: usize = 1;
            }
            impl<P> Absent for $stage<P> {}
        )+ };
    }
    probe!(Validation Caching Preprocessing Postprocessing);
}
