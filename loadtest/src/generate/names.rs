//! The vocabulary of a made-up travel company.

/// Lines of business: team and namespace.
pub(crate) const DOMAINS: [&str; 16] = [
    "hotel",
    "flight",
    "train",
    "bus",
    "cruise",
    "visa",
    "member",
    "payment",
    "search",
    "promo",
    "insurance",
    "guide",
    "review",
    "loyalty",
    "risk",
    "content",
];

/// What an app of a line does.
pub(crate) const FUNCTIONS: [&str; 20] = [
    "order", "price", "stock", "booking", "refund", "gateway", "notify", "report", "sync", "audit", "quote",
    "catalog", "profile", "session", "ranking", "ingest", "export", "coupon", "invoice", "schedule",
];

/// Clusters.
pub(crate) const CLUSTERS: [&str; 5] = ["bj-1", "bj-2", "sh-1", "sh-2", "sg-1"];
