// Package scheduler takes failed operations from one state to the next. [Pipeline]
// asks the policy (package policy) what becomes of an operation, makes the attempt and
// stores what follows, through ports that other packages implement. [Gates] say whether
// a due operation of a key may go now.
package scheduler
