//! encke-reports
