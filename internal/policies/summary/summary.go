// Package summary shows revisions of the policies in the API's messages. It is apart from
// package policies so that package client, which follows them, links no JSON Schemas.
package summary

import (
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/schemas"
)

// Of returns what a list of revisions shows of r: all but the policy file.
func Of(r policies.Revision) schemas.PolicyRevision {
	return schemas.PolicyRevision{Revision: r.Number, AppliedAt: r.At.UTC(), Bytes: len(r.Source), Comment: r.Comment(), Removed: r.Removed()}
}
