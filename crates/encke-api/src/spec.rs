//! The specification files as they stand in `spec/`, for the reference, the OpenAPI document and the coverage test.

/// `spec/endpoints.json`: the 251 published endpoints.
pub const ENDPOINTS: &str = include_str!("../../../spec/endpoints.json");
/// `spec/types.json`: the 253 structures and 55 aliases.
pub const TYPES: &str = include_str!("../../../spec/types.json");
/// `spec/constants.json`: the constant groups.
pub const CONSTANTS: &str = include_str!("../../../spec/constants.json");
/// `spec/engine_props.json`: documented keys of `SourceConfig.EngineProps`.
pub const ENGINE_PROPS: &str = include_str!("../../../spec/engine_props.json");
