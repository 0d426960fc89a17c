import json
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest

from fcdistill.config import (
    AdaptConfig,
    CacheConfig,
    Divergence,
    EvalConfig,
    ExecutorConfig,
    FromTeacherLayers,
    FullTuning,
    GenerateConfig,
    LocalBackendConfig,
    LoraTuning,
    ObjectiveConfig,
    OnPolicyConfig,
    OpenAIBackendConfig,
    Pretrained,
    ScriptedBackendConfig,
    TrainConfig,
    load_config,
    parse_config,
)
from fcdistill.errors import ConfigError

TRAIN = "train:\n  traces: traces.jsonl\n  out: runs/a\n  student: {model: tiny}\n"
EVAL = "eval:\n  cases: cases.jsonl\n  out: runs/b\n  model: tiny\n"
GENERATE = "generate:\n  tools: tools.json\n  out: runs/c\n  teacher: {model: big}\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_text(text: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def test_one_file_holds_a_section_per_stage(write: Any) -> None:
    path = write(GENERATE + TRAIN + EVAL)
    generate, train, evaluation = (load_config(path, "generate"), load_config(path, "train"), load_config(path, "eval"))
    assert isinstance(generate, GenerateConfig) and generate.teacher == LocalBackendConfig(model="big")
    assert isinstance(train, TrainConfig) and train.student == Pretrained(model="tiny")
    assert train.tuning == LoraTuning() and train.out == Path("runs/a")
    assert isinstance(evaluation, EvalConfig) and evaluation.model == LocalBackendConfig(model="tiny")


def test_an_adaptation_is_a_training_of_the_teacher_with_every_field_that_both_have(write: Any) -> None:
    values: dict[str, Any] = {
        "traces": "t.jsonl", "out": "runs/t", "teacher": "big", "tuning": {"lora_rank": 2}, "epochs": 7.0,
        "max_steps": 5, "examples_per_step": 6, "examples_per_pack": 3, "pack_tokens": 99, "max_example_tokens": 98,
        "learning_rate": 0.5, "learning_rate_schedule": "cosine", "warmup_fraction": 0.25, "weight_decay": 0.125,
        "max_grad_norm": 2.0, "held_out_fraction": 0.5, "dtype": "float32", "device": "cpu",
        "gradient_checkpointing": True, "save_steps": 4, "log_steps": 3, "merge": False, "seed": 9,
        "compile_loss": True, "monitor": {"steps": 2}, "report_to": ("wandb",), "run_name": "r",
        "tools_in_prompt": "none", "template_date": date(2025, 1, 3), "template": "kit",
        "dialect": "pythonic",
        "chat_template_kwargs": {"enable_thinking": True},
    }  # fmt: skip
    adapt = parse_config(values, "adapt", "test")
    assert adapt.model_fields_set == set(AdaptConfig.model_fields), "a field is not covered here"
    training = adapt.training()
    assert training.student == Pretrained(
        model="big", template="kit", dialect="pythonic", chat_template_kwargs={"enable_thinking": True}
    )
    assert training.teacher is None
    assert training.objective == ObjectiveConfig()
    shared = AdaptConfig.model_fields.keys() - {"teacher", "template", "dialect", "chat_template_kwargs"}
    assert {name: getattr(training, name) for name in shared} == {name: getattr(adapt, name) for name in shared}
    assert training.tuning == LoraTuning(lora_rank=2)


@pytest.mark.parametrize("written", ["2025-01-03", "'2025-01-03'"])
def test_a_template_date_is_written_as_a_date(write: Any, written: str) -> None:
    text = GENERATE.replace("{model: big}", f"{{model: big, template_date: {written}}}")
    assert load_config(write(text), "generate").teacher.template_date == date(2025, 1, 3)


def test_a_backend_may_be_a_model_name_alone(write: Any) -> None:
    teacher = load_config(write(GENERATE.replace("{model: big}", "big")), "generate").teacher
    assert teacher == LocalBackendConfig(model="big")


def test_an_executor_may_be_its_function_alone_and_a_judge_a_model_name(write: Any) -> None:
    config = load_config(write(GENERATE + "  executor: tools:run\n  judge: wise\n  num_votes: 3\n"), "generate")
    assert config.executor == ExecutorConfig(function="tools:run") and config.judge == LocalBackendConfig(model="wise")


def test_unions_are_chosen_by_their_tag(write: Any) -> None:
    text = TRAIN.replace("{model: tiny}", "{init: from_teacher_layers, model: big, keep_layers: [0, 5]}")
    train = load_config(write(text + "  tuning: {method: full}\n"), "train")
    assert train.student == FromTeacherLayers(init="from_teacher_layers", model="big", keep_layers=(0, 5))
    assert train.tuning == FullTuning(method="full")
    scripted = load_config(write(EVAL.replace("tiny", "{backend: scripted, answers: a.jsonl}")), "eval").model
    assert scripted == ScriptedBackendConfig(backend="scripted", answers=Path("a.jsonl"))


def test_anchors_share_values_and_an_own_value_wins(write: Any) -> None:
    text = "x-shared: &shared {seed: 7, epochs: 2}\n" + TRAIN + "  <<: *shared\n  epochs: 5\n"
    train = load_config(write(text), "train")
    assert (train.seed, train.epochs) == (7, 5.0)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001"])
def test_scientific_notation_is_a_number(write: Any, text: str) -> None:
    assert load_config(write(TRAIN + f"  learning_rate: {text}\n"), "train").learning_rate == 1e-3


def test_overrides_replace_values_in_their_order_and_reach_into_mappings(write: Any) -> None:
    overrides = ["seed=1", "seed=2", "objective.kd_weight=0.5", "teacher=big", "tuning={lora_rank: 4}", "epochs=1e0"]
    train = load_config(write(TRAIN), "train", overrides)
    assert (train.seed, train.objective.kd_weight, train.teacher, train.epochs) == (2, 0.5, "big", 1.0)
    assert train.tuning == LoraTuning(lora_rank=4)


def test_sections_that_are_not_asked_for_may_be_unfinished(write: Any) -> None:
    assert load_config(write(TRAIN + "eval: {}\n"), "train").traces == Path("traces.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a mapping"),
        ("- train", "is not a mapping"),
        ("1: 2", "is not a mapping"),
        ("trian: {}", "unknown section 'trian'"),
        ("eval: {}", "has no section 'train'"),
        ("train: [", "is not valid YAML"),
        ("train: " + "[" * 5000, "is not valid YAML"),
        ("train: {a: 2024-13-45}", "is not valid YAML: month must be in 1..12"),
        ("train: {a: !!python/object/apply:os.getcwd []}", "is not valid YAML: could not determine a constructor"),
        (TRAIN + "  seed: 1\n  seed: 2\n", "key 'seed' occurs twice"),
        (TRAIN + "  'seed': 1\n  seed: 2\n", "key 'seed' occurs twice"),
        (TRAIN + TRAIN, "key 'train' occurs twice"),
        (TRAIN + "  ? [a]\n  : 1\n", "unhashable key"),
        (b"train: \xff", "is not valid YAML: 'utf-8' codec can't decode"),
        (b"\x00", "is not valid YAML"),
    ],
)
def test_unusable_files(write: Any, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(text), "train")
    assert message in caught.value.found
    assert caught.value.required and caught.value.fix


def test_a_misspelt_section_is_recognised(write: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write("trian: {}"), "train")
    assert caught.value.fix == "Did you mean 'train'?"


def test_a_missing_file_or_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ConfigError, match="does not exist or is no file"):
            load_config(path, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epohcs: 3", "epohcs: unknown field. Did you mean 'epochs'?"),
        ("zzz: 3", "zzz: unknown field. Allowed: augmentation, cache, compile_loss, device,"),
        ("tuning: {lora_rnk: 3}", "tuning.lora_rnk: unknown field. Did you mean 'lora_rank'?"),
        ("tuning: {method: full, lora_rank: 3}", "tuning.lora_rank: unknown field. Allowed: method."),
        ("tuning: {method: qlora}", "tuning: Input tag 'qlora'"),
        ("tuning: lora", "tuning: must be a mapping of fields (found 'lora')"),
        ("objective: 3", "objective: must be a mapping of fields (found 3)"),
        ("objective: {kd_wieght: 1}", "objective.kd_wieght: unknown field. Did you mean 'kd_weight'?"),
        ("objective: {kd_weight: -1}", "objective.kd_weight: Input should be greater than or equal to 0 (found -1)"),
        ("held_out_fraction: 0.1\n  monitor: {steps: 0}", "monitor.steps: Input should be greater than or equal to 1"),
        ("monitor: {patience: 2}", "monitor: patience is set but steps is not"),
        ("monitor: {keep_best: true}", "monitor: keep_best is set but steps is not"),
        ("monitor: {steps: 5}", "monitor.steps is set but held_out_fraction is 0: hold some traces out"),
        ("objective: {kd_weight: 1}", "objective.kd_weight or objective.hidden_weight is set but teacher is not"),
        ("objective: {ce_weight: 0}", "objective: all weights are 0"),
        ("objective: {kd_divergence: kl}", "objective.kd_divergence: Input should be 'forward_kl', 'reverse_kl'"),
        ("objective: {jsd_beta: 1}", "objective.jsd_beta: Input should be less than 1 (found 1)"),
        ("objective: {jsd_beta: 0}", "objective.jsd_beta: Input should be greater than 0 (found 0)"),
        ("objective: {skew_alpha: 1}", "objective.skew_alpha: Input should be less than 1 (found 1)"),
        ("objective: {skew_alpha: -1}", "objective.skew_alpha: Input should be greater than or equal to 0 (found -1)"),
        ("objective: {ranking_top_k: 1}", "objective.ranking_top_k: Input should be greater than or equal to 2"),
        ("objective: {jsd_beta: 0.3}", "objective: jsd_beta 0.3 is set but kd_divergence is forward_kl: remove it, or"),
        ("objective: {kd_divergence: jsd, skew_alpha: 0}", "or set kd_divergence to skew_kl"),
        ("objective: {kd_divergence: tvd, ranking_top_k: 9}", "or set kd_divergence to logistic_ranking or hinge"),
        ("objective: {kd_gate: on}", "objective.kd_gate: Input should be 'off', 'agree' or 'prob' (found True)"),
        ("objective: {layer_map: []}", "objective: layer_map is empty"),
        ("objective: {layer_map: [[0, 3]]}", "objective: layer_map pair [0, 3]: indices start at 1"),
        ("objective: {layer_map: [[1, a]]}", "objective.layer_map.0.1: Input should be a valid integer (found 'a')"),
        ("objective: {layer_map: [[1]]}", "objective.layer_map.0.1: required and not given"),
        ("objective: {class_weights: {nme: 2}}", "objective.class_weights.nme: Input should be 'structure', 'name'"),
        ("epochs: yes", "epochs: Input should be a valid number (found True)"),
        ("epochs: three", "epochs: Input should be a valid number (found 'three')"),
        ("epochs: 0", "epochs: Input should be greater than 0"),
        ("epochs: .nan", "epochs: Input should be"),
        ("learning_rate: .inf", "learning_rate: Input should be a finite number (found inf)"),
        ("seed: '1'", "seed: Input should be a valid integer (found '1')"),
        ("seed: 1.5", "seed: Input should be a valid integer (found 1.5)"),
        ("seed: true", "seed: Input should be a valid integer (found True)"),
        ("merge: 1", "merge: Input should be a valid boolean (found 1)"),
        ("teacher: 5", "teacher: Input should be a valid string (found 5)"),
        ("tools_in_prompt: short", "tools_in_prompt: Input should be 'full', 'compact' or 'none' (found 'short')"),
        ("examples_per_pack: 3", "examples_per_pack 3 does not divide examples_per_step 16"),
        ("signal: offline", "signal: Input should be 'online', 'cached' or 'self' (found 'offline')"),
        ("cache: {}", "cache.dir: required and not given"),
        ("cache: {dir: c, top_k: -1}", "cache.top_k: Input should be greater than or equal to 0 (found -1)"),
        ("cache: {dir: c, topk: 8}", "cache.topk: unknown field. Did you mean 'top_k'?"),
        ("cache: {dir: c, temperatures: []}", "cache.temperatures: Tuple should have at least 1 item"),
        ("cache: {dir: c, temperatures: [0.0]}", "cache.temperatures.0: Input should be greater than 0 (found 0.0)"),
        ("cache: {dir: c, hidden_layers: [0]}", "cache.hidden_layers.0: Input should be greater than or equal to 1"),
        ("augmentation: {shuffle: true}", "augmentation.shuffle: unknown field. Did you mean 'shuffle_tools'?"),
        ("augmentation: {shuffle_tools: 1}", "augmentation.shuffle_tools: Input should be a valid boolean (found 1)"),
        ("augmentation: {rename_probability: 2}", "rename_probability: Input should be less than or equal to 1"),
        ("augmentation: {num_distractors: -1}", "num_distractors: Input should be greater than or equal to 0"),
        ("augmentation: {num_distractors: 2}", "num_distractors is 2 but distractor_catalogue is not given: name a"),
        ("augmentation: {distractor_catalogue: c.json}", "distractor_catalogue is given but num_distractors is 0: say"),
        ("on_policy_fraction: 1.5", "on_policy_fraction: Input should be less than or equal to 1 (found 1.5)"),
        ("on_policy_fraction: 0.5", "on_policy_fraction is 0.5, but no term of the objective follows a teacher"),
        ("on_policy: {temperature: 1}", "on_policy.temperature: unknown field. Did you mean 'sampling_temperature'?"),
        ("on_policy: {max_new_tokens: 0}", "on_policy.max_new_tokens: Input should be greater than or equal to 1"),
        ("on_policy: {top_p: 0}", "on_policy.top_p: Input should be greater than 0 (found 0)"),
        ("device: &loop [*loop]", "device: Input should be a valid string (found [[...]])"),
        ("1: 2", "1: Keys should be strings"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found(write: Any, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(TRAIN + f"  {line}\n"), "train")
    assert message in caught.value.found
    assert "config.yaml, section train:" in caught.value.found


def test_cached_signals_need_a_cache_of_their_temperature_where_a_teacher_is_followed(write: Any) -> None:
    cached = TRAIN + "  teacher: big\n  signal: cached\n"
    kd = "  objective: {kd_weight: 1.0, kd_temperature: 3.0}\n"
    with pytest.raises(ConfigError, match="signal is cached but cache is not given"):
        load_config(write(cached + kd), "train")
    with pytest.raises(ConfigError, match=r"kd_temperature is 3.0, but cache.temperatures are 1.0, 2.0, 4.0: choose"):
        load_config(write(cached + kd + "  cache: {dir: c}\n"), "train")
    train = load_config(write(cached + kd + "  cache: {dir: c, temperatures: [3, 1]}\n"), "train")
    assert train.cache == CacheConfig(dir=Path("c"), temperatures=(3.0, 1.0)) and train.cache.top_k == 32
    assert load_config(write(cached), "train").cache is None
    hidden = cached + "  objective: {hidden_weight: 1.0, kd_temperature: 3.0}\n  cache: {dir: c}\n"
    assert load_config(write(hidden), "train").signal == "cached"


SERVED = """\
  signal: cached
  served_teacher: {base_url: "http://localhost:8000/v1/", model: org/big, tokenizer: org/big}
  objective: {kd_weight: 1.0}
  cache: {dir: c}
"""


def test_a_served_teacher_serves_its_cache_at_temperature_1(write: Any) -> None:
    train = load_config(write(TRAIN + SERVED), "train")
    assert train.served_teacher is not None and train.served_teacher.base_url == "http://localhost:8000/v1"
    assert train.teacher is None and train.cache_temperatures == (1.0,)
    assert parse_config(train.model_dump(mode="json"), "train", "again") == train
    echo = TRAIN + SERVED.replace("tokenizer:", "logprobs: echo, tokenizer:").replace("dir: c", "dir: c, top_k: 0")
    assert load_config(write(echo), "train").cache == CacheConfig(dir=Path("c"), top_k=0)
    assert load_config(write(TRAIN + "  teacher: big\n  cache: {dir: c}\n"), "train").cache_temperatures == (1, 2, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  signal: cached\n", "", "signal is online, but served_teacher is asked once"),
        ("  signal: cached\n", "  signal: self\n", "signal is self, but served_teacher is asked once"),
        ("  signal: cached\n", "  signal: cached\n  teacher: big\n", "teacher is big, but served_teacher is given too"),
        ("kd_weight: 1.0", "hidden_weight: 1.0", "a server gives no hidden states"),
        ("dir: c", "dir: c, hidden_layers: [2]", "a server gives no hidden states"),
        (
            "kd_weight: 1.0",
            "kd_weight: 1.0, kd_temperature: 2.0",
            "objective.kd_temperature is 2.0, but a server gives",
        ),
        ("dir: c", "dir: c, temperatures: [1.0, 2.0]", "cache.temperatures are 1.0, 2.0, but a server's answers hold"),
        ("model: org/big", "model: org/big, logprobs: echo", "cache.top_k is 32, but served_teacher.logprobs is echo"),
        ("model: org/big", "model: org/big, logprobs: chat", "served_teacher.logprobs: Input should be"),
        ("kd_weight: 1.0", "kd_weight: 1.0, kd_divergence: reverse_kl", "reverse_kl, but signal is cached"),
        ("  cache: {dir: c}\n", "", "signal is cached but cache is not given"),
        (", tokenizer: org/big", "", "served_teacher.tokenizer: required and not given"),
        ("localhost", "me:secret@localhost", "served_teacher.base_url: must hold no user"),
        ("  signal: cached\n", "  signal: cached\n  teacher_device: cpu\n", "teacher_device is cpu but teacher is not"),
    ],
)
def test_what_a_server_can_not_teach_is_refused(write: Any, old: str, new: str, message: str) -> None:
    assert old in SERVED
    with pytest.raises(ConfigError) as raised:
        load_config(write(TRAIN + SERVED.replace(old, new)), "train")
    assert message in raised.value.found and "secret" not in str(raised.value)


@pytest.mark.parametrize("kd_gate", ["agree", "prob"])
def test_a_gate_needs_to_know_the_likeliest_token(write: Any, kd_gate: str) -> None:
    gated = f"  teacher: big\n  signal: cached\n  objective: {{kd_weight: 1.0, kd_gate: {kd_gate}}}\n"
    with pytest.raises(ConfigError, match=f"objective.kd_gate is {kd_gate}, but cache.top_k is 0"):
        load_config(write(TRAIN + gated + "  cache: {dir: c, top_k: 0}\n"), "train")
    assert load_config(write(TRAIN + gated + "  cache: {dir: c, top_k: 1}\n"), "train").objective.kd_gate == kd_gate


def test_a_student_that_teaches_itself_needs_an_adapter_and_no_teacher(write: Any) -> None:
    own = TRAIN + "  signal: self\n  objective: {kd_weight: 1.0, hidden_weight: 1.0, kd_divergence: reverse_kl}\n"
    assert load_config(write(own), "train").teacher is None
    with pytest.raises(ConfigError, match="signal is self, .* but teacher is big: remove teacher, or set signal to on"):
        load_config(write(own + "  teacher: big\n"), "train")
    with pytest.raises(ConfigError, match="signal is self, but tuning.method is full: .* set tuning.method to lora"):
        load_config(write(own + "  tuning: {method: full}\n"), "train")


AUGMENTATIONS = (
    "{shuffle_tools: true}",
    "{rename_probability: 0.1}",
    "{distractor_catalogue: c.json, num_distractors: 1}",
)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_augmentation_needs_tools_in_the_prompt_and_a_teacher_that_runs(write: Any, augmentation: str) -> None:
    train = TRAIN + "  teacher: big\n  cache: {dir: c}\n  augmentation: " + augmentation + "\n"
    for style in ("full", "compact"):
        assert load_config(write(train + f"  tools_in_prompt: {style}\n"), "train").augmentation.is_on
    with pytest.raises(ConfigError, match="augmentation changes the tools .*, but tools_in_prompt is none: set it to"):
        load_config(write(train + "  tools_in_prompt: none\n"), "train")
    kd = "  signal: cached\n  objective: {kd_weight: 1.0}\n"
    with pytest.raises(ConfigError, match="signal is cached and a cache is of fixed texts: set signal to online, or"):
        load_config(write(train + kd), "train")
    assert load_config(write(train + "  signal: cached\n"), "train").augmentation.is_on


def test_samples_are_not_drawn_for_tools_that_the_traces_lack(write: Any) -> None:
    train = TRAIN + "  teacher: big\n  objective: {kd_weight: 1.0}\n  on_policy_fraction: 0.5\n  augmentation: "
    assert load_config(write(train + "{shuffle_tools: true}\n"), "train").on_policy_fraction == 0.5
    with pytest.raises(ConfigError, match="rename_probability and on_policy_fraction are both set, .*: set one"):
        load_config(write(train + "{rename_probability: 0.5}\n"), "train")
    with pytest.raises(ConfigError, match="num_distractors and on_policy_fraction are both set, .*: set one"):
        load_config(write(train + "{distractor_catalogue: c.json, num_distractors: 1}\n"), "train")


@pytest.mark.parametrize(
    ("fields", "num_examples", "num_steps"),
    [
        ("epochs: 3", 200, 39),
        ("epochs: 0.5", 10, 1),
        ("epochs: 1.5\n  examples_per_pack: 2\n  examples_per_step: 2", 7, 6),
        ("epochs: 3\n  max_steps: 1000", 200, 39),
        ("epochs: 3\n  max_steps: 5", 200, 5),
    ],
)
def test_a_training_ends_with_its_epochs_or_before(write: Any, fields: str, num_examples: int, num_steps: int) -> None:
    assert load_config(write(TRAIN + f"  {fields}\n"), "train").num_steps(num_examples) == num_steps


def test_nothing_is_augmented_unless_asked_for(write: Any) -> None:
    off = "  tools_in_prompt: none\n  augmentation: {rename_probability: 0, num_distractors: 0}\n"
    assert not load_config(write(TRAIN + off), "train").augmentation.is_on


def test_reverse_kl_needs_a_teacher_that_runs(write: Any) -> None:
    train = TRAIN + "  teacher: big\n  cache: {dir: c}\n"
    reverse = "  objective: {kd_weight: 1.0, kd_divergence: reverse_kl}\n"
    with pytest.raises(
        ConfigError, match="kd_divergence is reverse_kl, but signal is cached: .*; set signal to online"
    ):
        load_config(write(train + "  signal: cached\n" + reverse), "train")
    assert load_config(write(train + reverse), "train").signal == "online"
    unused = "  objective: {hidden_weight: 1.0, kd_divergence: reverse_kl}\n"
    assert load_config(write(train + "  signal: cached\n" + unused), "train").signal == "cached"
    for divergence in set(get_args(Divergence)) - {"reverse_kl"}:
        other = reverse.replace("reverse_kl", divergence)
        assert load_config(write(train + "  signal: cached\n" + other), "train").signal == "cached"


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ("{steps: 5}", False),
        ("{steps: 5, patience: 2}", True),
        ("{steps: 5, patience: 2, keep_best: false}", False),
        ("{steps: 5, keep_best: true}", True),
        ("{keep_best: false}", False),
    ],
)
def test_the_best_student_is_kept_where_patience_is_set_or_on_request(write: Any, fields: str, kept: bool) -> None:
    train = load_config(write(TRAIN + f"  held_out_fraction: 0.1\n  monitor: {fields}\n"), "train")
    assert train.monitor.keeps_best is kept


def test_samples_of_the_student_need_a_teacher_that_runs(write: Any) -> None:
    train = TRAIN + "  teacher: big\n  cache: {dir: c}\n  on_policy_fraction: 0.25\n  objective: {kd_weight: 1.0}\n"
    with pytest.raises(ConfigError, match="on_policy_fraction is 0.25, but signal is cached, .*: set signal to online"):
        load_config(write(train + "  signal: cached\n"), "train")
    assert load_config(write(train), "train").on_policy == OnPolicyConfig()
    off = load_config(write(train + "  signal: cached\n"), "train", ["on_policy_fraction=0"])
    assert (off.on_policy_fraction, off.signal) == (0.0, "cached")


@pytest.mark.parametrize("divergence", ["logistic_ranking", "hinge"])
def test_a_ranking_needs_two_cached_tokens(write: Any, divergence: str) -> None:
    def read(signal: str, top_k: int, weight: str) -> TrainConfig:
        lines = (
            "teacher: big",
            f"signal: {signal}",
            f"cache: {{dir: c, top_k: {top_k}}}",
            f"objective: {{{weight}: 1.0, kd_divergence: {divergence}}}",
        )
        return load_config(write(TRAIN + "".join(f"  {line}\n" for line in lines)), "train")

    with pytest.raises(ConfigError, match=f"cache.top_k is 1, but objective.kd_divergence is {divergence}, .* 2 "):
        read("cached", 1, "kd_weight")
    assert read("cached", 2, "kd_weight").objective.kd_divergence == divergence
    assert read("online", 1, "kd_weight").signal == "online"
    assert read("cached", 1, "hidden_weight").signal == "cached"


@pytest.mark.parametrize(("text", "kd_gate"), [("off", "off"), ("'off'", "off"), ("agree", "agree"), ("prob", "prob")])
def test_a_gate_is_off_in_yaml_too(write: Any, text: str, kd_gate: str) -> None:
    assert load_config(write(TRAIN + f"  objective: {{kd_gate: {text}}}\n"), "train").objective.kd_gate == kd_gate


@pytest.mark.parametrize(
    "objective",
    [
        {"kd_divergence": "jsd", "jsd_beta": 0.3},
        {"kd_divergence": "skew_kl", "skew_alpha": 0.0},
        {"kd_divergence": "logistic_ranking", "ranking_top_k": 5},
        {"kd_divergence": "hinge", "ranking_top_k": 5},
        {"kd_divergence": "reverse_kl"},
        {"kd_divergence": "tvd", "kd_gate": "prob"},
        {},
    ],
)
def test_an_objective_can_be_read_again_once_it_is_resolved(objective: dict[str, Any]) -> None:
    resolved = ObjectiveConfig(**objective)
    assert ObjectiveConfig(**resolved.model_dump(mode="json")) == resolved


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("tiny", "student: must be a mapping of fields (found 'tiny')"),
        ("{}", "student.model: required and not given"),
        ("{init: from_teacher_layers, model: a}", "give exactly one of keep_every and keep_layers"),
        ("{init: from_teacher_layers, model: a, keep_every: 2, keep_layers: [1]}", "give exactly one of"),
        ("{init: from_teacher_layers, model: a, keep_every: 1}", "student.keep_every: Input should be greater than"),
        ("{init: scratch}", "student: Input tag 'scratch'"),
    ],
)
def test_wrong_students(write: Any, student: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(TRAIN.replace("{model: tiny}", student)), "train")
    assert message in caught.value.found


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "give exactly one of model and predictions"),
        ("  model: a\n  predictions: p.jsonl\n", "give exactly one of model and predictions"),
        ("  model: {batch_size: 3}\n", "model.model: required and not given"),
        ("  model: {backend: scripted}\n", "model.answers: required and not given"),
        ("  model: {backend: local, model: a, batch_sise: 3}\n", "model.batch_sise: unknown field. Did you mean"),
        ("  model: {backend: telepathy}\n", "model: Input tag 'telepathy'"),
        ("  model: 5\n", "model: must be a mapping of fields (found 5)"),
        ("  model: a\n  decode: {temperature: 1}\n", "decode.temperature: unknown field. Did you mean 'sampling_temp"),
    ],
)
def test_wrong_sources_of_predictions(write: Any, model: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(EVAL.replace("  model: tiny\n", model)), "eval")
    assert message in caught.value.found


def test_all_wrong_fields_are_named_at_once(write: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write("train: {out: 5, epohcs: 2, student: {model: a}}"), "train")
    assert {line.split(":")[0].strip() for line in caught.value.found.splitlines()[1:]} == {"out", "epohcs", "traces"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set 'seed'"),
        ("=1", "--set '=1'"),
        ("seed=[1", "expected ',' or ']'"),
        ("tuning={a: 1, a: 2}", "key 'a' occurs twice"),
        ("sede=1", "sede: unknown field. Did you mean 'seed'?"),
        ("out.x=1", "'x' lies below 'runs/a', which is no mapping"),
        ("a..b=1", "a: unknown field"),
    ],
)
def test_wrong_overrides(write: Any, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(TRAIN), "train", [override])
    assert message in caught.value.found


def test_an_override_does_not_silently_drop_a_model_name(write: Any) -> None:
    with pytest.raises(ConfigError, match="'batch_size' lies below 'tiny'"):
        load_config(write(EVAL), "eval", ["model.batch_size=4"])


def test_values_from_elsewhere_name_their_origin() -> None:
    with pytest.raises(ConfigError, match="flags of eval, section eval:"):
        parse_config({"cases": 5}, "eval", "flags of eval")
    values = {"cases": Path("a"), "out": Path("b"), "predictions": Path("c")}
    assert parse_config(values, "eval", "flags of eval").predictions == Path("c")


def test_every_field_is_documented_unless_its_name_says_it_all() -> None:
    plain = {"seed", "teacher", "student", "tuning", "objective", "monitor", "decode", "backend", "method", "init"}
    plain |= {"learning_rate", "learning_rate_schedule", "weight_decay"}
    for config_type in (AdaptConfig, GenerateConfig, TrainConfig, EvalConfig):
        undocumented = {name for name, info in config_type.model_fields.items() if not info.description}
        assert undocumented <= plain, undocumented - plain


def openai_teacher(**fields: object) -> str:
    values = {"backend": "openai_http", "base_url": "http://localhost:8000/v1/", "model": "m", **fields}
    return json.dumps(values)


def test_a_server_is_a_teacher_and_a_model(write: Any) -> None:
    expected = OpenAIBackendConfig(backend="openai_http", base_url="http://localhost:8000/v1", model="m")
    assert load_config(write(GENERATE.replace("{model: big}", openai_teacher())), "generate").teacher == expected
    assert load_config(write(EVAL.replace("tiny", openai_teacher())), "eval").model == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_url": "localhost:8000"}, "model.base_url: must be a URL"),
        ({"base_url": "http://"}, "model.base_url: must be a URL"),
        ({"base_url": "http://me:secret@host/v1"}, "model.base_url: must hold no user"),
        ({"base_url": "http://host/v1?key=secret"}, "model.base_url: must hold no user"),
        ({"api_key_env": "sk-secret"}, "model.api_key_env: must be the name of an environment variable"),
        ({"api_key": "sk-secret"}, "model.api_key: unknown field. Did you mean 'api_key_env'"),
        ({"max_concurrency": 0}, "model.max_concurrency"),
        ({"timeout_s": 0.0}, "model.timeout_s"),
        ({"api": "completions"}, "model: api completions needs tokenizer"),
        ({"tokenizer": "t"}, "model: tokenizer has no effect with api chat"),
        ({"tools_in_prompt": "none"}, "model: tools_in_prompt has no effect with api chat"),
        ({"template": "kit"}, "model: template kit has no effect with api chat"),
        ({"chat_template_kwargs": {"enable_thinking": [1]}}, "model.chat_template_kwargs"),
        ({"prompt_price": 1.0}, "model: give both of prompt_price and completion_price"),
    ],
)
def test_what_a_server_can_not_be_asked_with_is_refused(write: Any, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(EVAL.replace("tiny", openai_teacher(**fields))), "eval")
    assert message in str(raised.value) and "secret" not in str(raised.value)
