// Package strictjson reads JSON that leaves no doubt what was meant. [Unmarshal]
// refuses what encoding/json passes over: names that the type does not have to the
// letter, names that stand twice, text that is not UTF-8, and anything behind the
// value.
package strictjson
