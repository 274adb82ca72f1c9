// Package strictjson reads JSON without ambiguity. [Unmarshal] refuses what encoding/json
// ignores: names that do not exactly match a field, duplicate names, invalid UTF-8, and anything
// after the value.
package strictjson
