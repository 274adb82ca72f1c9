package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// shape describes the names and values allowed in the objects and arrays of a type. The zero
// value allows any.
type shape struct {
	// members are the fields of a struct by name, nil for other types.
	members map[string]reflect.Type
	// other is the element type of a map or a list.
	other reflect.Type
}

var (
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// shapeOf returns the shape of a type, where nil allows any.
func shapeOf(t reflect.Type) shape {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || reflect.PointerTo(t).Implements(readsJSON) || reflect.PointerTo(t).Implements(readsText) {
		return shape{}
	}
	switch t.Kind() {
	case reflect.Struct:
		return shape{members: members(t)}
	case reflect.Map, reflect.Slice, reflect.Array:
		return shape{other: t.Elem()}
	default:
		return shape{}
	}
}

// members returns the fields of a struct, including those of embedded structs, by their JSON
// names.
func members(t reflect.Type) map[string]reflect.Type {
	names := make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-", !f.IsExported(), f.Anonymous && name == "":
			continue
		case name == "":
			name = f.Name
		}
		names[name] = f.Type
	}
	return names
}
