package system

import "testing"

// TestRegistryConforms needs the rights of an administrator.
func TestRegistryConforms(t *testing.T) { registryConforms(t, hostRegistry{}, `SOFTWARE\Wattle-Test`) }
