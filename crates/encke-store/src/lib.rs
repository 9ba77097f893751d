//! encke-store
