// Package schemas holds the contract as data: the requests and answers of the API as Go
// types, such as [Status], a JSON Schema (draft 2020-12) for each of them and for every
// event, and an AsyncAPI 3.0 document of all subjects that refers to them. [Validate]
// checks a JSON document against one of the schemas, [Get] returns its text.
//
// The files are embedded, so a program needs nothing beside itself. All functions
// are safe for concurrent use.
package schemas
