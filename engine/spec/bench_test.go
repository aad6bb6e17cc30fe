package spec

import "testing"

// BenchmarkBuild is what each start of a container pays for its description.
func BenchmarkBuild(b *testing.B) {
	in := testInput(b)
	in.Config.User = "mail"
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
