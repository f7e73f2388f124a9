"""Hostile recipes and overrides: each function returns the text of a recipe, or a list of overrides of a good one."""

from __future__ import annotations

from attacks.gallery import Gallery

from biper.recipes.packaged import recipe_text

RECIPES = Gallery()


def _with(line: str) -> str:
    """A good recipe after one more line."""
    return line + "\n" + recipe_text("digits")


@RECIPES.attack("recipe FILE is not valid TOML: lists and tables are more than 20 deep in each other")
def nested_brackets() -> str:
    """The recursion of the parser: 500 lists in each other."""
    return _with("a = " + "[" * 500 + "]" * 500)


@RECIPES.attack("recipe FILE is not valid TOML: lists and tables are more than 20 deep in each other")
def nested_tables() -> str:
    """The recursion of whoever writes the recipe again: tables that the parser still reads."""
    return _with("a = " + "{b = " * 100 + "1" + "}" * 100)


@RECIPES.attack("recipe FILE is not valid TOML: lists and tables are more than 20 deep in each other")
def deep_but_allowed_by_the_parser() -> str:
    """The same with a table header of 150 parts."""
    return recipe_text("digits") + "\n[" + ".".join("a" * 150) + "]\nb = 1\n"


@RECIPES.attack("recipe FILE is not valid TOML: a number has more than 300 digits")
def long_integer() -> str:
    """The conversion of 5,000 digits, which Python refuses with an error that is no error of TOML."""
    return _with("seed = " + "9" * 5000)


@RECIPES.attack("recipe FILE is not valid TOML: a number has more than 300 digits")
def long_hexadecimal_integer() -> str:
    """A number that Python reads, but cannot write in decimal for an error message."""
    return _with("seed = 0x" + "f" * 5000)


@RECIPES.attack("recipe FILE is not valid TOML: a number has more than 300 digits")
def long_integer_with_underscores() -> str:
    """The same number, cut by underscores."""
    return _with("seed = " + "_".join(["999"] * 2000))


@RECIPES.attack("recipe FILE is not valid TOML: a line has more than 200 dots")
def dotted_key() -> str:
    """Time that grows with the square of the parts of a key."""
    return _with(".".join("a" * 100_000) + " = 1")


@RECIPES.attack("recipe FILE is not valid TOML: a line has more than 200 dots")
def dotted_key_in_quotes() -> str:
    """The same in quotes."""
    return _with(".".join(['"a"'] * 50_000) + " = 1")


@RECIPES.attack("recipe FILE is not valid TOML: it begins with a byte order mark: save it as UTF-8 without one")
def byte_order_mark() -> str:
    """A mark that some editors write, and that no one sees."""
    return "\ufeff" + recipe_text("digits")


@RECIPES.attack(
    "recipe FILE: unknown key 'learning_rat0'; did you mean 'teacher.learning_rate'?; unknown key "
    "'learning_rat1'; did you mean 'teacher.learning_rate'?; unknown key 'learning_rat2'; did you "
    "mean 'teacher.learning_rate'?; unknown key 'learning_rat3'; did you mean "
    "'teacher.learning_rate'?; unknown key 'learning_rat4'; did you mean 'teacher.learning_rate'?; "
    "unknown key 'learning_rat5'; did you mean 'teacher.learning_rate'?; unknown key "
    "'learning_rat6'; did you mean 'teacher.learning_rate'?; unknown key 'learning_rat7'; did you "
    "mean 'teacher.learning_rate'?; unknown key 'learning_rat8'; did you mean "
    "'teacher.learning_rate'?; unknown key 'learning_rat9'; did you mean 'teacher.learning_rate'?; "
    "and 9990 more"
)
def many_unknown_keys() -> str:
    """Time and text: each unknown key is compared with all that are known."""
    return "\n".join(f"learning_rat{number} = 1" for number in range(10_000)) + "\n" + recipe_text("digits")


@RECIPES.attack(
    "recipe FILE: unknown key "
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx[cut"
    "]"
)
def long_unknown_key() -> str:
    """Time: comparing two words takes the product of their lengths."""
    return _with("x" * 200_000 + " = 1")


@RECIPES.attack("cannot read recipe FILE: it has 300,789 bytes, expected at most 262,144")
def huge_file() -> str:
    """Memory: comments of 300 kB."""
    return _with("# " + "x" * 300_000)


@RECIPES.attack("recipe FILE: unknown key '\\x1b[2Jx'")
def escape_sequence_in_a_key() -> str:
    """The terminal: a key that would clear the screen when the error names it."""
    return _with('"\\u001b[2Jx" = 1')


@RECIPES.attack("recipe FILE is not valid TOML: Illegal character '\\x7f' (at line 1, column 7)")
def raw_delete_character() -> str:
    """A control character that TOML forbids, as it stands."""
    return _with('x = "a\x7fb"')


@RECIPES.attack(
    "recipe FILE is not valid TOML: Expected newline or end of document after a statement (at line 1, column 6)"
)
def nul_character() -> str:
    """The end of a text for functions of C."""
    return _with("x = 1\0")


@RECIPES.attack('overrides=["stage1.epochs"]: lists and tables are more than 20 deep in each other')
def set_nested_brackets() -> list[str]:
    """The recursion of the parser, from the command line."""
    return ["stage1.epochs=" + "[" * 500 + "]" * 500]


@RECIPES.attack('overrides=["model.arguments"]: lists and tables are more than 20 deep in each other')
def set_nested_tables() -> list[str]:
    """A value that could be read, but not be written again."""
    return ["model.arguments=" + "{a = " * 60 + "1" + "}" * 60]


@RECIPES.attack('overrides=["seed"]: a number has more than 300 digits')
def set_long_integer() -> list[str]:
    """A number of 5,000 digits."""
    return ["seed=" + "9" * 5000]


@RECIPES.attack(
    "overrides=... expects keys of up to 20 parts, got "
    "'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
    ".a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
    ".a.a.a.a[cut]"
)
def set_dotted_key() -> list[str]:
    """A key of 100,000 parts, which would be as many tables in each other."""
    return [".".join("a" * 100_000) + "=1"]


@RECIPES.attack("overrides=... expects keys of up to 20 parts, got 'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1'")
def set_key_deeper_than_tables() -> list[str]:
    """A key of 21 parts, one more than is allowed."""
    return [".".join("a" * 21) + "=1"]


@RECIPES.attack("recipe digits: unknown key '\\ufeffseed'; did you mean 'seed'?")
def set_byte_order_mark() -> list[str]:
    """A key that looks like one that is known."""
    return ["\ufeffseed=3"]


@RECIPES.attack("recipe digits: a text is no Unicode: a\\udcffb")
def set_half_a_character() -> list[str]:
    """Bytes of the command line that are no UTF-8, which Python gives as surrogates: they cannot be written."""
    return ["description=a\udcffb"]


@RECIPES.attack('overrides=["model.arguments"]: a text is no Unicode: \\udcff')
def set_half_a_character_in_a_list() -> list[str]:
    """The same inside of a value."""
    return ['model.arguments={a = ["\udcff"]}']


@RECIPES.attack(
    "overrides=... expects key=value such as stage1.epochs=10, got "
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxx[cut]"
)
def set_without_equals() -> list[str]:
    """A message that would quote a megabyte."""
    return ["x" * 1_000_000]


@RECIPES.attack(
    'overrides=["description.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    'xxxxxxxxxxxxxxxxxxxx[cut]"]: description is a value, not a table'
)
def set_into_a_value() -> list[str]:
    """A message that would quote a long part of a key."""
    return ["description." + "x" * 100_000 + ".y=1"]


@RECIPES.attack("recipe digits: data.crop_padding: must be less than or equal to 16384, got 1000000000")
def set_crop_padding() -> list[str]:
    """Memory: images padded by a billion pixels."""
    return ["data.crop_padding=1000000000"]


@RECIPES.attack("recipe digits: data.batch_size: must be less than or equal to 1000000, got 1152921504606846976")
def set_batch_size() -> list[str]:
    """Memory: a batch of 2^60 images."""
    return [f"data.batch_size={1 << 60}"]


@RECIPES.attack("recipe digits: data.image_size: must be less than or equal to 16384, got 1000000")
def set_image_size() -> list[str]:
    """Memory: pictures of 10^12 pixels."""
    return ["data.image_size=1000000"]


@RECIPES.attack("recipe digits: data.signal_length: must be less than or equal to 16777216, got 1000000000000000")
def set_signal_length() -> list[str]:
    """Memory: signals of 10^15 samples."""
    return ["data.signal_length=1000000000000000"]


@RECIPES.attack("recipe digits: stage1.epochs: must be less than or equal to 1000000, got 1000000000")
def set_epochs() -> list[str]:
    """Time, and a plan of a billion epochs."""
    return ["stage1.epochs=1000000000"]


@RECIPES.attack("recipe digits: stage1.warmup_epochs: must be less than or equal to 1000000, got 1e+308")
def set_warmup() -> list[str]:
    """A float that becomes infinite when it is multiplied by the steps of an epoch."""
    return ["stage1.warmup_epochs=1e308"]


@RECIPES.attack("recipe digits: seed: must be less than 9223372036854775808, got 9223372036854775808")
def set_seed() -> list[str]:
    """A seed that does not fit into 63 bits."""
    return [f"seed={1 << 63}"]


@RECIPES.attack(
    "recipe digits: no method [1]; known: biper, bnn, xnor-net, dorefa, bi-real, ir-net, recu, reste, adabin, reactnet"
)
def set_method_name_of_another_type() -> list[str]:
    """A name that is looked up in a table although it is a list."""
    return ["method.name=[1]"]


@RECIPES.attack(
    "recipe digits: method.weights: there is no {'a': 1}; known: biper, ste, xnor-net, dorefa, "
    "bi-real, ir-net, recu, reste, adabin"
)
def set_method_weights_of_another_type() -> list[str]:
    """The same for one of the three choices."""
    return ["method.weights.name={a = 1}"]


@RECIPES.attack(
    "recipe digits: seed: must be a valid integer, got datetime.datetime(1979, 5, 27, 7, 32, "
    "tzinfo=datetime.timezone.utc)"
)
def set_a_date() -> list[str]:
    """A type that JSON does not have, in an error message."""
    return ["seed=1979-05-27T07:32:00Z"]


@RECIPES.attack("recipe digits: model.bits: must be 'W1A1', 'W1A32' or 'W32A32', got '\\x1b[2J'")
def set_escape_sequence() -> list[str]:
    """The terminal: a value that would clear the screen when the error quotes it."""
    return ["model.bits=\x1b[2J"]
