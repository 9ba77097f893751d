//! encke-storage
