"""A user's model as an AuditModel: module, objective, preprocessing, and where its tail begins."""
