//! encke-api
