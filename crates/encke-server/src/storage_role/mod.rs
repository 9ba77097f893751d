//! (being written)
use crate::app::App;
use crate::table::Route;
use axum::Router;
use std::sync::Arc;
/// Paths outside the endpoint table.
pub fn router(_app: Arc<App>) -> Router {
    Router::new()
}
/// Endpoints.
pub fn routes() -> Vec<Route> {
    vec![]
}

pub(crate) fn start(_app: &std::sync::Arc<App>) {}
