package settings

import (
	"github.com/spf13/pflag"

	"github.com/wattlenet/wattle/internal/program"
)

// Flags adds a flag for each setting and returns what was given, to be read
// after the command line was parsed.
func Flags(flags *pflag.FlagSet) func() (given, variables Given) {
	v := Defaults()
	for _, s := range table {
		usage := s.Usage
		if s.Choices != nil {
			usage += ": " + oneOf(s.Choices)
		}
		flag := flags.VarPF(&value{setting: s, values: &v}, s.Flag(), "", usage)
		if _, isBool := s.field(&v).(*toggle); isBool {
			flag.NoOptDefVal = "true"
		}
	}
	return func() (given, variables Given) {
		given, variables = Given{}, Given{}
		flags.Visit(func(flag *pflag.Flag) {
			held, ok := flag.Value.(*value)
			switch {
			case !ok:
			case program.FromEnvironment(flag):
				variables[held.setting.Name] = held.String()
			default:
				given[held.setting.Name] = held.String()
			}
		})
		return given, variables
	}
}

// value is a setting as a flag.
type value struct {
	setting Setting
	values  *Values
}

func (v *value) String() string {
	if v.values == nil { // pflag makes one to learn what its zero value prints
		return ""
	}
	return v.setting.field(v.values).String()
}

func (v *value) Set(given string) error { return v.setting.parse(v.values, given) }

func (v *value) Type() string { return v.setting.field(v.values).kind() }
