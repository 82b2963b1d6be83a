//! The podgate.v1 API as generated code, and nothing else.

/// The public API.
pub mod v1 {
    tonic::include_proto!("podgate.v1");
}

/// Records of the embedded store. Internal to the gateway.
pub mod store {
    tonic::include_proto!("podgate.store.v1");
}

/// What podgate asks of an ACL service that stands behind it.
pub mod upstream {
    tonic::include_proto!("podgate.upstream.v1");
}

/// The APIs of Envoy that podgate serves, and what they import; see `vendored/README.md`.
#[cfg(feature = "envoy")]
#[allow(clippy::all, reason = "generated from protos that are not ours")]
pub mod vendored {
    tonic::include_proto!("vendored");
}

#[cfg(feature = "envoy")]
pub use vendored::envoy;

/// The encoded `FileDescriptorSet` of all packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same of the vendored packages.
#[cfg(feature = "envoy")]
pub const ENVOY_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/envoy_descriptors.bin"));
