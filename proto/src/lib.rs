//! The podgate.v1 API as generated code, and nothing else.

/// The public API.
pub mod v1 {
    tonic::include_proto!("podgate.v1");
}

/// Records of the embedded store. Internal to the gateway.
pub mod store {
    tonic::include_proto!("podgate.store.v1");
}

/// The encoded `FileDescriptorSet` of both packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
