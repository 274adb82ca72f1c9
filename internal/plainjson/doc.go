// Package plainjson writes and reads structs as JSON without reflection. [Fields] is handed to a
// function that lists the fields of a struct once, for both directions. What is written has the
// bytes that encoding/json writes. Only what was written so is read, so that encoding/json has to
// read everything else.
package plainjson
