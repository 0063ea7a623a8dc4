package golden

import (
	"fmt"
	"reflect"
)

// Filled returns a value of v's type with every field set, each to something else: numbers count up, lists have one element,
// and so have maps. The same type always gives the same value.
func Filled(v any) any {
	out := reflect.New(reflect.TypeOf(v)).Elem()
	next := 0
	fill(out, &next, 0)
	return out.Interface()
}

// maxNesting bounds types that hold themselves.
const maxNesting = 12

func fill(v reflect.Value, next *int, depth int) {
	if depth > maxNesting {
		return
	}
	*next++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*next % 100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*next % 100))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*next % 100))
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", *next))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{byte(*next)})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), next, depth+1)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), next, depth+1)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, next, depth+1)
		fill(value, next, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), next, depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), next, depth+1)
			}
		}
	default:
		panic(fmt.Sprintf("golden: a %s is no part of a format", v.Kind()))
	}
}
