package policy

import (
	"reflect"
	"strings"
	"testing"
)

// TestKeySet_ApplyCopiesTheFieldOfEveryKeyAndNoOther sets one key after the other. A
// field of Policy that has no key, or whose key is missing in a list, fails it.
func TestKeySet_ApplyCopiesTheFieldOfEveryKeyAndNoOther(t *testing.T) {
	typ := reflect.TypeFor[Policy]()
	if len(keys) != typ.NumField() {
		t.Errorf("there are %d keys for the %d fields of a policy, want one each", len(keys), typ.NumField())
	}
	var from Policy
	for i := range typ.NumField() {
		setField(t, reflect.ValueOf(&from).Elem().Field(i))
	}
	for i := range typ.NumField() {
		field := typ.Field(i)
		name := strings.ToLower(field.Name[:1]) + field.Name[1:]
		place, known := keyIndex[name]
		if !known {
			t.Errorf("the field %s has no key %s", field.Name, name)
			continue
		}
		var only keySet
		only.add(place)
		var to, want Policy
		only.apply(&to, &from)
		reflect.ValueOf(&want).Elem().Field(i).Set(reflect.ValueOf(from).Field(i))
		if !reflect.DeepEqual(to, want) {
			t.Errorf("applying the key %s alone makes %+v, want only %s copied", name, to, field.Name)
		}
	}
}

// setField sets a field to something other than its zero value.
func setField(t *testing.T, field reflect.Value) {
	t.Helper()
	switch field.Kind() {
	case reflect.Int, reflect.Int64:
		field.SetInt(7)
	case reflect.Uint8:
		field.SetUint(1)
	case reflect.Float64:
		field.SetFloat(0.5)
	case reflect.Bool:
		field.SetBool(true)
	case reflect.String:
		field.SetString("set")
	case reflect.Slice:
		field.Set(reflect.MakeSlice(field.Type(), 1, 1))
	default:
		t.Fatalf("a policy has a field of the kind %s, which this test cannot set", field.Kind())
	}
}
