"""Whether the order of a question's facts says something: who acts on whom, in the active, the passive, as nouns."""

import pytest

from functions.agreement import disagreement
from functions.order import acts, attributes, remedies
from functions.vocabulary import words

SWAPPED = [
    # The passive turns who acts and who is acted on round.
    ("Is sleep affected by coffee?", "Does sleep affect coffee?"),
    ("How are wages affected by inflation?", "How do wages affect inflation?"),
    ("Was Caesar killed by Brutus?", "Did Caesar kill Brutus?"),
    ("Was Caesar killed by Brutus?", "Was Brutus killed by Caesar?"),
    ("Which companies were bought by Google?", "Which companies bought Google?"),
    ("Par qui Bull a-t-il été racheté ?", "Qui Bull a-t-il racheté ?"),
    ("Le chat est-il mangé par la souris ?", "Le chat mange-t-il la souris ?"),
    ("César a-t-il été tué par Brutus ?", "Brutus a-t-il été tué par César ?"),
    # Who does it, whom it is done to.
    ("Who did Microsoft acquire?", "Who acquired Microsoft?"),
    ("troops that invaded France", "troops that France invaded"),
    ("apple sues samsung", "samsung sues apple"),
    ("Do wages drive inflation?", "Does inflation drive wages?"),
    ("Does age affect memory?", "Does memory affect age?"),
    ("Does price drive demand?", "Does demand drive price?"),
    ("What affects sleep?", "What does sleep affect?"),
    ("effect of coffee on sleep", "Does sleep affect coffee?"),
    ("effect of coffee on sleep", "effect of sleep on coffee"),
    ("Comment les lions chassent les zèbres ?", "Comment les zèbres chassent les lions ?"),
    # Whose, of whom; to whom.
    ("Einstein's opinion of Bohr", "Bohr's opinion of Einstein"),
    ("Spain's exports to Italy", "Italy's exports to Spain"),
    ("Can I lend my car to my brother?", "Can my brother lend me his car?"),
    ("Puis-je vendre ma voiture à mon frère ?", "Mon frère peut-il me vendre sa voiture ?"),
    # From where to where.
    ("switch from vim to emacs", "switch from emacs to vim"),
    ("migrer de vim à emacs", "migrer de emacs à vim"),
    ("wine from France", "wine in France"),
    ("travel to Japan", "travel in Japan"),
    ("How to call Java from Python?", "How to call Python from Java?"),
    # What is in what, on what.
    ("install Ubuntu 22.04 in Docker", "install Docker on Ubuntu 22.04"),
    ("How do I install Ubuntu 22.04 in Docker?", "install Docker Ubuntu 22.04"),
    ("Can I run Linux under Windows?", "Can I run Windows under Linux?"),
    ("Is Docker on Ubuntu slow?", "Is Ubuntu in Docker slow?"),
    ("open Excel in Word", "open Word in Excel"),
    ("import Outlook contacts into Gmail", "import Gmail contacts into Outlook"),
    ("Importer des contacts de Gmail dans Outlook", "Importer des contacts d'Outlook dans Gmail"),
    ("Importer des contacts de gmail dans outlook", "Importer des contacts de outlook dans gmail"),
    ("Importer des contacts Outlook dans Gmail", "Importer des contacts de Gmail vers Outlook"),
    ("Combien vaut un dollar en euros ?", "Quel est le cours de l'euro en dollars ?"),
    ("How much is a dollar in euros?", "How much is a euro in dollars?"),
    ("How far did Caesar march from Paris to Rome?", "How far did Caesar march from Rome to Paris?"),
    ("Installer Ubuntu sous Windows", "Installer Windows sous Ubuntu"),
    # On whose side.
    ("Does Zidane play for Algeria?", "Does Zidane play against Algeria?"),
    ("Zidane joue-t-il pour l'Algérie ?", "Zidane joue-t-il contre l'Algérie ?"),
    ("arguments for nuclear power", "arguments against nuclear power"),
    ("Qui a voté pour la loi ?", "Qui a voté contre la loi ?"),
    # What is compared.
    ("Is Ruby slower than Python?", "Is Ruby faster than Python?"),
    ("Is Ruby slower than Python?", "Is Python slower than Ruby?"),
    ("countries bigger than France", "countries smaller than France"),
]
ALIKE = [
    ("Is sleep affected by coffee?", "Does coffee affect sleep?"),
    ("effect of coffee on sleep", "Does coffee affect sleep?"),
    ("What impact does coffee have on sleep?", "How does coffee affect sleep?"),
    ("Were rates raised by the Fed in May 2023?", "Did the Fed raise rates in May 2023?"),
    ("Which companies were bought by Google?", "Which companies did Google buy?"),
    ("Par qui Bull a-t-il été racheté ?", "Qui a racheté Bull ?"),
    ("Quand la loi a-t-elle été votée par le Parlement ?", "Quand le Parlement a-t-il voté la loi ?"),
    ("Can cheese be frozen?", "Can you freeze cheese?"),
    ("Is Ruby slower than Python?", "Is Python faster than Ruby?"),
    ("Go est-il plus lent que Rust ?", "Rust est-il plus rapide que Go ?"),
    ("Dublin flat average rent", "average rent of a flat in Dublin"),
    ("carbon-14 half-life", "half-life of carbon-14"),
    ("spotify number of users", "How many users does Spotify have?"),
    ("Einstein's opinion of Bohr", "What did Einstein think of Bohr?"),
    ("crêpes sans lait : la recette", "Recette de crêpes sans lait"),
    ("La tour Eiffel, construite quand ?", "Quand a été construite la tour Eiffel ?"),
    ("git : comment annuler un commit", "Comment annuler un commit git ?"),
    ("git undo commit", "How do I undo a git commit?"),
    ("la reine du Danemark a quel âge ?", "Quel âge a la reine du Danemark ?"),
    ("distance between the Earth and the Moon", "distance between the Moon and the Earth"),
    ("tourists in Japan", "japan tourists"),
    ("install Docker on Ubuntu", "install Docker in Ubuntu"),
    ("docker ubuntu installation", "How do I install Docker on Ubuntu?"),
    ("ubuntu: install docker", "How do I install Docker on Ubuntu?"),
    ("import Gmail contacts into Outlook", "import contacts from Gmail into Outlook"),
    ("Importer les contacts Gmail dans Outlook", "Importer des contacts de Gmail vers Outlook"),
    ("Combien vaut un dollar en euros ?", "Quel est le cours du dollar en euros ?"),
    ("price of gold in euros in France", "price of gold in France in euros"),
    ("Slack in French on Ubuntu", "Slack on Ubuntu in French"),
    ("Who plays against Algeria tonight?", "Who plays Algeria tonight?"),
    ("visa for Japan", "visa to Japan"),
    ("distance from Mars to Earth in km", "How far is Mars from Earth in km?"),
    ("vaccine for malaria", "vaccine against malaria"),
    ("médicament pour la toux", "médicament contre la toux"),
]


@pytest.mark.parametrize(("one", "other"), SWAPPED)
def test_who_does_what_to_whom_is_told_apart(one: str, other: str) -> None:
    """Both ways."""
    assert disagreement(one, other) is not None
    assert disagreement(other, one) is not None


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_an_order_that_says_nothing_does_not_matter(one: str, other: str) -> None:
    """The passive, an owner, a topic set off, an attribute and what has it."""
    assert disagreement(one, other) is None
    assert disagreement(other, one) is None


def test_what_is_done_is_a_pole_of_an_axis() -> None:
    """A word that is none would never be found."""
    assert len(acts()) == len(words().acts)


def test_remedies_are_known_in_both_languages() -> None:
    """By their stems, or by the concept that they are a word of."""
    assert {"vaccin", "treatm", "medicine"} <= remedies()


def test_attributes_are_facts_that_a_question_may_state() -> None:
    """Keys of `concepts`, or words that are left alone."""
    assert {"price", "age", "ceo"} <= attributes()
    assert not {name for name in ("effect", "causing", "author") if name in attributes()}
