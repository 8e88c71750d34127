//! Routes that can be told: what a plane answers to, beside how. Owns the list; refuses to know handlers. Why: axum does
//! not tell what it was given, and the OpenAPI documents are held against it.

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, any, on},
};

/// Routes, and the list of them.
pub(super) struct Routes<S> {
    router: Router<S>,
    listed: Vec<(Method, String)>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), listed: Vec::new() }
    }

    fn on<H: Handler<T, S>, T: 'static>(
        self,
        (method, filter): (Method, MethodFilter),
        path: &str,
        handler: H,
    ) -> Self {
        let Self { router, mut listed } = self;
        listed.push((method, path.to_owned()));
        Self { router: router.route(path, on(filter, handler)), listed }
    }

    pub(super) fn get<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on((Method::GET, MethodFilter::GET), path, handler)
    }

    pub(super) fn post<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on((Method::POST, MethodFilter::POST), path, handler)
    }

    pub(super) fn put<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on((Method::PUT, MethodFilter::PUT), path, handler)
    }

    pub(super) fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on((Method::DELETE, MethodFilter::DELETE), path, handler)
    }

    /// A handler that looks at method and path itself, and what it takes.
    pub(super) fn any<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, takes: &[(Method, &str)]) -> Self {
        let Self { router, mut listed } = self;
        listed.extend(takes.iter().map(|(method, path)| (method.clone(), (*path).to_owned())));
        Self { router: router.route(path, any(handler)), listed }
    }

    /// Changes the routes so far in a way that adds nothing to the list.
    pub(super) fn map(self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self { router: change(self.router), listed: self.listed }
    }

    pub(super) fn merge(self, other: Self) -> Self {
        let listed = self.listed.into_iter().chain(other.listed).collect();
        Self { router: self.router.merge(other.router), listed }
    }

    pub(super) fn router(self) -> Router<S> {
        self.router
    }

    /// All that is answered.
    #[cfg(test)]
    pub(super) fn listed(&self) -> &[(Method, String)] {
        &self.listed
    }
}
