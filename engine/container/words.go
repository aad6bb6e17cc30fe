package container

// Words that names are made of: adjectives, and surnames of people of science,
// seafaring and engineering.
var (
	adjectives = []string{
		"able", "airy", "amber", "ample", "bold", "breezy", "bright", "brisk", "calm", "candid",
		"chipper", "clear", "clever", "coral", "cosy", "crisp", "curious", "daring", "deft", "drifting",
		"eager", "earnest", "fair", "fleet", "fond", "frank", "gallant", "gentle", "glad", "gleaming",
		"golden", "hardy", "hearty", "humble", "jolly", "keen", "kind", "limber", "lively", "lucid",
		"mellow", "merry", "mild", "misty", "neat", "nimble", "noble", "patient", "placid", "plucky",
		"polite", "proud", "quick", "quiet", "rooted", "rugged", "salty", "serene", "silver", "sleek",
		"snug", "sober", "spry", "steady", "sunny", "swift", "tender", "tidal", "tidy", "tranquil",
		"trusty", "upbeat", "vivid", "warm", "wavy", "wily", "windy", "wise", "witty", "zesty",
	}
	surnames = []string{
		"agassiz", "alvin", "amundsen", "anning", "baret", "bascom", "beaufort", "beebe", "bering", "bigelow",
		"bjerknes", "boole", "bowditch", "brahe", "carson", "cavendish", "church", "clarke", "conway", "cook",
		"cousteau", "curie", "dalton", "darwin", "dijkstra", "dirac", "drew", "earle", "ekman", "euler",
		"faraday", "fermat", "fitzroy", "franklin", "galvani", "gauss", "germain", "goodall", "halley", "hamilton",
		"harrison", "hooker", "hopper", "humboldt", "huygens", "jansson", "johnson", "kelvin", "kepler", "knuth",
		"kovalevskaya", "lamarr", "leeuwenhoek", "liskov", "lovelace", "magellan", "maury", "maxwell", "meitner", "mercator",
		"milne", "munk", "nansen", "newton", "noether", "payne", "piccard", "planck", "ramanujan", "ritchie",
		"rubin", "shannon", "somerville", "stommel", "tharp", "thompson", "turing", "wegener", "wilkes", "wu",
	}
)
