// Package policies keeps the policies that are in force for all instances. [Bucket] is a
// NATS key-value bucket with one key, whose value is a policy file and whose revisions are
// its history.
package policies
