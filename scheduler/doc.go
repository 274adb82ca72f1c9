// Package scheduler carries failed operations from one state to the next. Most
// important is [Pipeline]: it asks the policy (package policy) what becomes of an
// operation, makes the attempt, and stores what follows, through ports that others
// implement. [Gates] say whether a due operation of a key may go now.
package scheduler
