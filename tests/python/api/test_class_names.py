"""The name of a remote class, inside its methods and outside: attributes, static methods, inheritance; handles that travel."""

import copy
import pickle

import aktis
import cloudpickle
import pytest

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 60


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


class Base:
    def greet(self):
        return "base"


@aktis.remote(num_cpus=0)
class Model(Base):
    LIMIT = 3

    def __init__(self):
        self.greet_again = False  # pyright: ignore[reportAttributeAccessIssue]

    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    def name(cls):
        return cls.__name__

    def limit(self):
        return Model.LIMIT + self.LIMIT

    def uses_static(self):
        return Model.double(2), Model.name()

    def greet(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        return "model, " + super().greet()

    def greet_again(self):
        return self.greet()

    def knows_itself(self):
        return isinstance(self, Model) and not isinstance(1, Model) and issubclass(type(self), Model)  # pyright: ignore[reportArgumentType]

    def makes_another(self):
        return aktis.get(Model.remote().limit.remote())

    def one_and_two(self):
        return 1, 2


def test_attributes_of_the_class_are_read_by_its_name_in_its_methods():
    model = Model.remote()
    assert get([model.limit.remote(), model.uses_static.remote()]) == [6, (4, "Model")]
    assert get(model.knows_itself.remote()) and get(model.makes_another.remote()) == 6


def test_super_reaches_the_base_class():
    assert get(Model.remote().greet.remote()) == "model, base"


def test_an_attribute_of_the_instance_does_not_hide_the_method_of_its_name():
    assert get(Model.remote().greet_again.remote()) == "model, base"


def test_attributes_of_the_class_are_read_outside_too():
    assert (Model.LIMIT, Model.double(4), Model.name()) == (3, 8, "Model")
    assert {"greet", "LIMIT", "remote", "options"} <= set(dir(Model))
    with pytest.raises(AttributeError, match="no_such"):
        _ = Model.no_such


def test_inheriting_from_a_remote_class_is_refused_with_the_way_out():
    with pytest.raises(aktis.actor.ActorClassInheritanceException, match="inherit from the plain class"):

        class Derived(Model):  # pyright: ignore[reportGeneralTypeIssues]
            pass


@aktis.remote
def call(method, *arguments):
    return aktis.get(method.remote(*arguments))


def test_a_method_of_an_actor_can_be_passed_to_a_task():
    model = Model.remote()
    assert get(call.remote(model.limit)) == 6
    assert get(call.remote(model.one_and_two.options(num_returns=2))) == [1, 2]


def test_what_holds_handles_and_references_can_be_copied():
    model, ref = Model.remote(), aktis.put("value")
    held = copy.deepcopy({"model": model, "refs": [ref], "method": model.limit})
    assert held["model"] == model and held["refs"] == [ref]
    assert get([held["method"].remote(), held["model"].limit.remote()]) == [6, 6]
    assert get(copy.copy(ref)) == "value"


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_references_and_handles_are_pickled_outside_of_tasks(dumps):
    model, ref = Model.remote(), aktis.put("value")
    data = dumps((ref, model))

    @aktis.remote
    def read(data):
        ref, model = pickle.loads(data)
        return aktis.get([ref, model.limit.remote()])

    del ref, model  # the bytes keep both
    assert get(read.remote(data)) == ["value", 6]
    again, _ = pickle.loads(data)
    assert get(again) == "value"
