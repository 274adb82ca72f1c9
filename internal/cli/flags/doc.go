// Package flags has the values that flags take: a [Word] of a few, a service's
// [Name], [When] something happened, a [Duration] with days, a [Rate].
package flags
