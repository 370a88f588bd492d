package api

import (
	_ "embed"
	"slices"
)

//go:generate go run ../nodetest/openapi

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the surface's description, an OpenAPI 3.1 document in JSON. It is made from the routes of node/daemon
// and the types of this package: go generate ./node/api.
func OpenAPI() []byte { return slices.Clone(openAPI) }
