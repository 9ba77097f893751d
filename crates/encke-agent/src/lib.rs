//! encke-agent
