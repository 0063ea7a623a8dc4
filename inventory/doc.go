// Package inventory will decide about inventory: typed items, their digests, what changed between two pictures of a host,
// and compliance.
//
// It is empty now. It will be pure: inventory/collect will read hosts, node/report will carry and index what they say. It
// will never look at a host itself.
package inventory
