package main
import "testing"
func TestRealFixture(t *testing.T) {
	_, m, _ := load(t, "../../openapi.yaml", "wattle")
	conform(t, m)
}
