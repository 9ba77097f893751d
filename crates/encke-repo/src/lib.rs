//! encke-repo
