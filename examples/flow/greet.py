"""A flow with parameters and tasks."""

from prefect import flow, get_run_logger, task


@task
def greeting(name: str, polite: bool) -> str:
    return f"Good day to you, {name}." if polite else f"Hello {name}!"


@task
def count_letters(texts: list[str]) -> int:
    return sum(character.isalpha() for text in texts for character in text)


@flow
def greet(names: list[str], polite: bool = False) -> int:
    """Greets people and counts the letters.

    Args:
        names: Whom to greet.
        polite: Whether to be formal about it.
    """
    logger = get_run_logger()
    texts = [greeting(name, polite) for name in names]
    for text in texts:
        logger.info(text)
    letters = count_letters(texts)
    logger.info("%d letters", letters)
    return letters
