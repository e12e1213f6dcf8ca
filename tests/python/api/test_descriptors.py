"""A process that may open few files: what works, what its errors are, and what helps."""

from waiting import run


def test_errors_have_their_types_where_no_descriptor_is_left_and_dropped_actors_make_room(tmp_path):
    output = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
        import aktis
        aktis.init(num_cpus=2, log_to_driver=False)

        @aktis.remote(num_cpus=0)
        class Actor:
            def number(self, number): return number

        actors = [Actor.remote() for _ in range(30)]
        refs = [actor.number.remote(number) for number, actor in enumerate(actors)]
        aktis.wait(refs, num_returns=len(refs), timeout=15)
        answers, failures = [], []
        for number, ref in enumerate(refs):
            try:
                assert aktis.get(ref, timeout=0.1) == number
                answers.append(number)
            except aktis.exceptions.AktisError as error:
                failures.append(error)
        assert answers and failures, (answers, failures)
        del actors, refs, ref, failures
        print(aktis.get(aktis.remote(len).remote("abc"), timeout=60))
        """,
        env={"XDG_STATE_HOME": str(tmp_path)},
    )
    assert output == "3\n"
