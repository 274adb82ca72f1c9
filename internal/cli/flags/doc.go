// Package flags has the types of flags: a [Word] of a few, a service's [Name], [When]
// something happened, a [Duration] with days, a [Rate].
package flags
