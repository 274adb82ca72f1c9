// Package catalog knows which services and keys were ever seen, so that a misspelt name is noticed;
// see [Catalog.Find].
package catalog
