"""The names of transformers that are used here: a token is a letter, a template puts roles before what they say."""


class Tokenizer:
    """A tokenizer."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *, trust_remote_code=False):
        if pretrained_model_name_or_path == "missing":
            raise OSError("there is no tokenizer 'missing'")
        return cls()

    def apply_chat_template(
        self,
        conversation,
        *,
        tokenize,
        chat_template,
        add_generation_prompt,
        continue_final_message,
        **kwargs,
    ):
        if add_generation_prompt == continue_final_message:
            raise ValueError("one of them")
        told = "".join(f"<{each['role']}>{each['content']}" for each in conversation)
        if kwargs:
            told = f"{kwargs}{told}"
        return f"{chat_template or ''}{told}" + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text):
        return {"input_ids": [[ord(letter) for letter in each] for each in text]}

    def batch_decode(self, sequences, *, skip_special_tokens):
        return ["".join(map(chr, each)) for each in sequences]


AutoTokenizer = AutoProcessor = Tokenizer
