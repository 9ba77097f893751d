//! (being written)
use crate::app::App;
use axum::Router;
use std::sync::Arc;
/// Paths outside the endpoint table.
pub fn router(_app: Arc<App>) -> Router {
    Router::new()
}
